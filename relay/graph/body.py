# SPDX-License-Identifier: MIT
"""The octets of one HTTP request, as pieces: a message is held once, and its base64 is made while it is sent.

Knows http.client's way of reading a body, and nothing of what is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from relay.base64text import encoded
from relay.spool import Octets, Spooled, pieces_of

_PIECE = 131_072  # octets; the timeout counts for each piece anew, so larger ones would ask for a faster line


@dataclass(frozen=True, slots=True)
class Base64:
    """Stands for the base64 of these octets (RFC 4648 §4), without line breaks."""

    octets: Octets = field(repr=False)

    def __len__(self) -> int:
        return (len(self.octets) + 2) // 3 * 4


Piece = bytes | memoryview | Spooled | Base64


@dataclass(frozen=True, slots=True)
class Content:
    """What one request carries. Its length is known without encoding anything."""

    pieces: tuple[Piece, ...] = field(repr=False)

    def __len__(self) -> int:
        return sum(map(len, self.pieces))

    def __bytes__(self) -> bytes:
        return b"".join(self)

    def __iter__(self) -> Iterator[bytes | memoryview]:
        """The octets from the first to the last in handy pieces, none of them empty: small ones go out as one."""
        return self._cut() if len(self.pieces) == 1 else self._joined()

    def _joined(self) -> Iterator[bytes | memoryview]:
        waiting: list[bytes | memoryview] = []
        room = _PIECE
        for piece in self._cut():
            if len(piece) > room:
                yield b"".join(waiting) if len(waiting) > 1 else waiting[0]
                waiting, room = [], _PIECE
            waiting.append(piece)
            room -= len(piece)
        if waiting:
            yield b"".join(waiting) if len(waiting) > 1 else waiting[0]

    def _cut(self) -> Iterator[bytes | memoryview]:
        for piece in self.pieces:
            if isinstance(piece, Base64):
                for octets in pieces_of(piece.octets, _PIECE // 4 * 3):  # whole groups of three: no padding in between
                    yield encoded(octets)
            elif isinstance(piece, Spooled):
                yield from piece.pieces(_PIECE)
            elif 0 < len(piece) <= _PIECE:
                yield piece
            else:
                view = memoryview(piece)
                yield from (view[at : at + _PIECE] for at in range(0, len(view), _PIECE))


class Body:
    """Content on its way out that knows whether all of it went: the line between not sent and perhaps sent."""

    def __init__(self, content: bytes | Content) -> None:
        self._content = content if isinstance(content, Content) else Content((content,))
        self._length = len(content)
        self.finished = not self._length  # then the head of the request is all there is

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes | memoryview]:
        """Piece by piece; http.client sends each before it asks for the next."""
        yield from self._content
        self.finished = True
