# SPDX-License-Identifier: MIT
"""Line ends of mail data: CR LF everywhere (RFC 5322 §2.3). Exchange breaks messages with others in them."""

from __future__ import annotations

import re

_ANY_LINE_END = re.compile(rb"\r\n|\r|\n")


def normalised(content: bytes) -> bytes:
    """content with a CR LF for each bare CR and bare LF.

    Where every line ends in CR CR LF, as programs write that turn LF into CR LF twice, that is one line end: read
    as two, a blank line would follow the first header field, and the rest of the header would be text.
    """
    lines = content.count(b"\n")
    proper = content.count(b"\r\n")
    if lines == proper == content.count(b"\r"):
        return content
    if lines and content.count(b"\r\r\n") == lines and content.count(b"\r") == 2 * lines:
        return content.replace(b"\r\r\n", b"\r\n")
    return _ANY_LINE_END.sub(b"\r\n", content)
