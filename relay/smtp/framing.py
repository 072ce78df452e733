# SPDX-License-Identifier: MIT
"""Where mail data ends, and where it is dot-stuffed. At CR LF . CR LF and nowhere else (RFC 5321 §4.1.1.4, §2.3.8), but
for the clients that the administrator has named in bare_lf_networks."""

from __future__ import annotations

import re
from typing import NamedTuple

NEARLY_ENDED = re.compile(rb"(?:\n\.\r?\n|\r\.\r\n?)(?:QUIT\r?\n)?\Z", re.IGNORECASE)
"""What some clients have sent instead, and wait; a file that a script sends has its QUIT behind that."""
NEARLY_AN_END = len(b"\n.\r\nQUIT\r\n")


class Framing(NamedTuple):
    """How mail data ends, and what dot-stuffing looks like (RFC 5321 §4.5.2)."""

    line_end: bytes
    stuffed: bytes  # a dot at the beginning of a line: a stuffed one, or that of the end
    ends: tuple[bytes, ...]

    def find_end(self, held: bytes, start: int) -> tuple[int, int]:
        """Where the first end from start on begins and stops; -1 when it is not there."""
        first, behind = -1, -1
        for end in self.ends:
            at = held.find(end, start)
            if at >= 0 and (at < first or first < 0):
                first, behind = at, at + len(end)
        return first, behind

    def end_begun(self, held: bytes) -> int:
        """How many of the last octets may be the beginning of the end."""
        longest = max(map(len, self.ends)) - 1
        for length in range(min(longest, len(held)), 0, -1):
            if any(end.startswith(held[-length:]) for end in self.ends):
                return length
        return 0


CR_LF = Framing(b"\r\n", b"\r\n.", (b"\r\n.\r\n",))
BARE_LF = Framing(b"\n", b"\n.", (b"\n.\r\n", b"\n.\n"))  # for the clients in bare_lf_networks alone
