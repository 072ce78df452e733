# SPDX-License-Identifier: MIT
"""Whether HTML shows anything. Some programs send an empty frame of HTML beside the text. Pure, and linear."""

from __future__ import annotations

import html
import re

_PIECE = re.compile(r"<!--.*?(?:-->|\Z)|<(/?[A-Za-z][A-Za-z0-9]*+)[^>]*+>?|<[!?/][^>]*+>?|[^<]++|<", re.DOTALL)
_HIDDEN = frozenset(("style", "script", "title"))
_SHOWN = frozenset(
    ("area", "audio", "button", "canvas", "embed", "hr", "iframe", "image", "img", "input", "math", "meter", "object")
) | {"picture", "progress", "select", "svg", "textarea", "video"}
_BLANK = " \t\r\n\f\xa0\u200b\u200c\u200d\ufeff"


def shows_something(text: str) -> bool:
    """Whether a reader of this HTML sees more than an empty page."""
    hidden_by = ""
    for piece in _PIECE.finditer(text):
        tag = (piece[1] or "").lower()
        if hidden_by:
            hidden_by = "" if tag == f"/{hidden_by}" else hidden_by
        elif tag in _HIDDEN:
            hidden_by = tag
        elif tag in _SHOWN or (piece[0][0] != "<" and html.unescape(piece[0]).strip(_BLANK)):
            return True
    return False
