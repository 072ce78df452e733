# SPDX-License-Identifier: MIT
"""Octets of a message: few in memory, many in a file without a name, and the same octets whichever it is."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from relay.spool import IN_MEMORY_BYTES, Octets, Spool, Spooled, digest_of, pieces_of, view_of

LARGE = bytes(range(256)) * 6000  # 1.5 MB


def spooled(octets: bytes, piece: int = 65_536, *, digested: bool = False) -> Octets:
    spool = Spool(digested=digested)
    for at in range(0, len(octets), piece):
        spool.append(octets[at : at + piece])
    assert len(spool) == len(octets)
    return spool.finish()


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_few_octets_stay_in_memory() -> None:
    assert spooled(b"abc") == b"abc"
    assert spooled(b"") == b""
    exactly = b"x" * IN_MEMORY_BYTES
    assert spooled(exactly) == exactly


def test_many_octets_go_into_a_file_that_has_no_name(directory: Path) -> None:
    content = spooled(LARGE)
    assert isinstance(content, Spooled)
    assert len(content) == len(LARGE)
    assert bytes(content) == LARGE
    assert b"".join(pieces_of(content, 1000)) == LARGE
    assert view_of(content)[:] == LARGE
    assert list(directory.iterdir()) == []


def test_a_part() -> None:
    content = spooled(LARGE)
    assert isinstance(content, Spooled)
    part = content.part(10, 300_000)
    assert (len(part), bytes(part)) == (299_990, LARGE[10:300_000])
    assert bytes(part.part(5, 20)) == LARGE[15:30]
    assert bytes(content.part(len(LARGE) - 3, len(LARGE) + 100)) == LARGE[-3:]


@pytest.mark.parametrize("octets", [b"", b"abc", LARGE])
def test_the_digest_is_that_of_the_octets(octets: bytes) -> None:
    assert digest_of(spooled(octets, digested=True)) == hashlib.sha256(octets).digest()


def test_a_spool_is_empty_behind_its_end() -> None:
    spool = Spool()
    spool.append(LARGE)
    assert bytes(spool.finish()) == LARGE
    spool.append(b"next")
    assert spool.finish() == b"next"
    spool.append(LARGE)
    spool.clear()
    assert len(spool) == 0
    assert spool.finish() == b""


def test_where_no_file_can_be_made_the_octets_stay_in_memory(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    assert spooled(LARGE, digested=True) == LARGE
    assert [record.getMessage() for record in caplog.records] == ["spool_failed"]


@pytest.mark.parametrize("room", [0, 70_000, IN_MEMORY_BYTES + 100_000])
def test_a_full_disk(
    room: int, directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whenever it is full: what went into the file is read back, and no octet is lost or doubled."""
    make = tempfile.TemporaryFile

    class FullDisk:
        def __init__(self, file: Any) -> None:
            self._file = file
            self.fileno, self.close = file.fileno, file.close

        def write(self, octets: memoryview) -> int:
            left = room - self._file.tell()
            if left <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return int(self._file.write(octets[:left]))

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **options: FullDisk(make(**options)))
    assert spooled(LARGE, digested=True) == LARGE
    assert [record.getMessage() for record in caplog.records] == ["spool_failed"]
