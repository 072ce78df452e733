# SPDX-License-Identifier: MIT
"""Octets of one message: in memory while they are few, above 1 MiB in a temporary file that has no name.

So that many large messages at a time cost little memory, and none is held twice. The file is gone with the object that
stands for it, and with the process. Where it cannot be written, the octets stay in memory: the disk refuses no mail.
"""

from __future__ import annotations

import hashlib
import io
import logging
import mmap
import os
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

log = logging.getLogger(__name__)

IN_MEMORY_BYTES = 1_048_576
WINDOW_BYTES = 262_144
"""So much is worked on at a time: some tenths of a millisecond in which the interpreter does nothing else."""

_LARGE_FILES = "/var/tmp"  # noqa: S108 - the file has no name there; /tmp is often memory itself (FHS 3.0 §5.15)


class Spooled:
    """Octets in a file, from start to end. Never changed; read in pieces."""

    __slots__ = ("_end", "_file", "_start", "digest")

    def __init__(self, file: _File, start: int, end: int, digest: bytes = b"") -> None:
        self._file = file
        self._start = start
        self._end = end
        self.digest = digest  # of all octets, where there is one

    def __len__(self) -> int:
        return self._end - self._start

    def __bytes__(self) -> bytes:
        return b"".join(self.pieces())

    def part(self, start: int, end: int) -> Spooled:
        """Some of them, in the same file."""
        return Spooled(self._file, self._start + start, min(self._start + end, self._end))

    def pieces(self, size: int = WINDOW_BYTES) -> Iterator[bytes]:
        """All of them, in order, so many at a time."""
        for at in range(self._start, self._end, size):
            yield self._file.read(min(size, self._end - at), at)

    def mapped(self) -> mmap.mmap:
        """All of them, to be looked at here and there. Not of a part."""
        return mmap.mmap(self._file.descriptor, self._end, access=mmap.ACCESS_READ)


Octets = bytes | Spooled


class Spool:
    """Takes octets in, piece by piece."""

    __slots__ = ("_digested", "_file", "_pieces", "_size")

    def __init__(self, *, digested: bool = False) -> None:
        """digested: what comes to lie in a file has a digest, made on the way."""
        self._digested = digested
        self._pieces: list[bytes] = []
        self._size = 0
        self._file: _File | None = None

    def __len__(self) -> int:
        return self._size

    def append(self, piece: bytes) -> None:
        """Take some more."""
        before, self._size = self._size, self._size + len(piece)
        try:
            if self._file is not None:
                self._file.write(piece)
                return
            self._pieces.append(piece)
            if before <= IN_MEMORY_BYTES < self._size:
                self._file = _File(_temporary_file(), digested=self._digested)
                for held in self._pieces:
                    self._file.write(held)
                self._pieces = []
        except OSError as fault:
            reason = f"a large message stays in memory: no temporary file ({fault.strerror}); free space or set TMPDIR"
            log.warning("spool_failed", extra={"reason": reason})
            if not self._pieces and self._file is not None:
                self._pieces = [self._file.read(before, 0), piece]
            self._file = None

    def finish(self) -> Octets:
        """All that was taken in. The spool is empty then."""
        pieces, file, size = self._pieces, self._file, self._size
        self.clear()
        return b"".join(pieces) if file is None else Spooled(file, 0, size, file.digest())

    def clear(self) -> None:
        """Forget it all."""
        self._pieces, self._file, self._size = [], None, 0


class _File:
    """A file without a name, closed with the last who knows it. All that it does raises OSError."""

    def __init__(self, file: io.FileIO, *, digested: bool = False) -> None:
        self._file = file
        self.descriptor = file.fileno()
        self._hash = hashlib.sha256() if digested else None

    def write(self, piece: bytes) -> None:
        left = memoryview(piece)
        while left:
            left = left[self._file.write(left) :]
        if self._hash is not None:
            self._hash.update(piece)

    def digest(self) -> bytes:
        return self._hash.digest() if self._hash is not None else b""

    def read(self, size: int, at: int) -> bytes:
        return os.pread(self.descriptor, size, at)

    def __del__(self) -> None:
        self._file.close()


def _temporary_file() -> io.FileIO:
    # None is where Python puts temporary files, which is what TMPDIR says.
    directory = _LARGE_FILES if "TMPDIR" not in os.environ and os.access(_LARGE_FILES, os.W_OK) else None
    return tempfile.TemporaryFile(buffering=0, dir=directory)


def view_of(octets: Octets) -> bytes | mmap.mmap:
    """The octets as something that regular expressions and slices can read, for as long as somebody holds it."""
    return octets if isinstance(octets, bytes) else octets.mapped()


def window_of(view: bytes | mmap.mmap, start: int, end: int) -> bytes:
    """A copy of the octets from start to end. A map lets go of the pages: read again, they come from the file."""
    octets = view[start:end]
    if isinstance(view, mmap.mmap) and len(octets) >= WINDOW_BYTES:
        first = start - start % mmap.PAGESIZE
        view.madvise(mmap.MADV_DONTNEED, first, end - first)
    return octets


def digest_of(octets: Octets) -> bytes:
    """SHA-256: processors have instructions for it. Of what lies in a file it was made on the way."""
    return hashlib.sha256(octets).digest() if isinstance(octets, bytes) else octets.digest


def pieces_of(octets: Octets, size: int = WINDOW_BYTES) -> Iterator[bytes]:
    """All of them, in order, so many at a time."""
    if isinstance(octets, Spooled):
        return octets.pieces(size)
    return (octets[at : at + size] for at in range(0, len(octets), size))


def spooled(octets: bytes) -> Octets:
    """The octets in a file if they are many."""
    spool = Spool()
    spool.append(octets)
    return spool.finish()


def pack(thing: object) -> tuple[bytes, list[int]]:
    """thing for another process: pickled, and the descriptors of the files in it. Raises pickle.PickleError."""
    stream = io.BytesIO()
    packer = _Packer(stream, protocol=pickle.HIGHEST_PROTOCOL)
    packer.dump(thing)
    return stream.getvalue(), [file.descriptor for file in packer.files]


def unpack(octets: bytes | bytearray, descriptors: Sequence[int]) -> Any:
    """What pack() was given. octets: of our own process alone, since a pickle can do whatever it likes."""
    return _Unpacker(io.BytesIO(octets), [_File(io.FileIO(descriptor, "rb")) for descriptor in descriptors]).load()


class _Packer(pickle.Pickler):
    """Writes a file as its place among the descriptors."""

    def __init__(self, stream: io.BytesIO, protocol: int) -> None:
        super().__init__(stream, protocol)
        self.files: list[_File] = []

    def persistent_id(self, obj: object) -> int | None:
        if not isinstance(obj, _File):
            return None
        if obj not in self.files:
            self.files.append(obj)
        return self.files.index(obj)


class _Unpacker(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, files: list[_File]) -> None:
        super().__init__(stream)
        self._files = files

    def persistent_load(self, pid: int) -> _File:
        return self._files[pid]
