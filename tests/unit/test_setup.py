# SPDX-License-Identifier: MIT
"""A new configuration file: for its owner alone, never over another one, and a fault that says what to do."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from relay.setup import SetupFailed, write_new


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write_new(path, "oauth2_config: {}\n")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("oauth2_config: {}\n", 0o600)


def test_what_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("theirs")
    with pytest.raises(SetupFailed, match="is there already; remove it, or name another file with --output"):
        write_new(path, "ours", "--output")
    assert path.read_text() == "theirs"


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(SetupFailed, match="none is not there; make it"):
        write_new(tmp_path / "none" / "config.yaml", "")


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, mode: str, encoding: str) -> io.TextIOWrapper:
        os.close(descriptor)
        return open("/dev/full", mode, encoding=encoding)

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(SetupFailed, match="cannot be written: No space left on device"):
        write_new(tmp_path / "config.yaml", "oauth2_config: {}\n")
