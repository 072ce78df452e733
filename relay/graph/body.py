# SPDX-License-Identifier: MIT
"""The octets of one HTTP request, as pieces: a message is held once, and its base64 is made while it is sent.

Knows http.client's way of reading a body, and nothing of what is in it.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from dataclasses import dataclass, field

_BLOCK = 131_072  # octets at a time; the timeout counts for each block anew, so larger ones would ask for a faster line


@dataclass(frozen=True, slots=True)
class Base64:
    """Stands for the base64 of these octets (RFC 4648 §4), without line breaks."""

    octets: bytes = field(repr=False)

    def __len__(self) -> int:
        return (len(self.octets) + 2) // 3 * 4


Piece = bytes | memoryview | Base64


@dataclass(frozen=True, slots=True)
class Content:
    """What one request carries. Its length is known without encoding anything."""

    pieces: tuple[Piece, ...] = field(repr=False)

    def __len__(self) -> int:
        return sum(len(piece) for piece in self.pieces)

    def __bytes__(self) -> bytes:
        return b"".join(self.blocks())

    def blocks(self) -> Iterator[bytes]:
        """The octets from the first to the last, in blocks that are not empty: small pieces go out as one."""
        waiting: list[bytes] = []
        room = _BLOCK
        for block in self._blocks():
            if len(block) > room:
                yield b"".join(waiting)
                waiting, room = [], _BLOCK
            waiting.append(block)
            room -= len(block)
        if waiting:
            yield b"".join(waiting)

    def _blocks(self) -> Iterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Base64):
                for block in _cut(piece.octets, _BLOCK // 4 * 3):  # whole groups of three: no padding in between
                    yield binascii.b2a_base64(block, newline=False)
            else:
                yield from map(bytes, _cut(piece, _BLOCK))


def _cut(octets: bytes | memoryview, size: int) -> Iterator[memoryview]:
    view = memoryview(octets)
    return (view[at : at + size] for at in range(0, len(view), size))


class Body:
    """Content on its way out that knows whether all of it went: the line between not sent and perhaps sent."""

    def __init__(self, content: bytes | Content) -> None:
        self._content = content if isinstance(content, Content) else Content((content,))
        self.finished = len(content) == 0  # then the head of the request is all there is

    def __len__(self) -> int:
        return len(self._content)

    def __iter__(self) -> Iterator[bytes]:
        """Block by block; http.client sends each before it asks for the next."""
        yield from self._content.blocks()
        self.finished = True
