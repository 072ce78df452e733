# SPDX-License-Identifier: MIT
"""One version everywhere; the lock files name what setup.py asks for, with hashes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relay import __version__
from tests.support.relay_process import CHECKOUT

PACKAGING = CHECKOUT / "packaging"
LOCKS = sorted((PACKAGING / "requirements").glob("*.txt"))


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("CHANGELOG.md", r"^## (\S+) "),
        ("packaging/rpm/graph-smtp-relay.spec", r"^Version: +(\S+)$"),
        ("packaging/rpm/graph-smtp-relay.spec", r"^\* .*> - (\S+)-1$"),
        ("packaging/debian/changelog", r"^graph-smtp-relay \((\S+)\) "),
        ("packaging/man/graph-smtp-relay.1", r'^\.TH .*"graph-smtp-relay (\S+)"'),
        ("packaging/man/graph-smtp-relay.yaml.5", r'^\.TH .*"graph-smtp-relay (\S+)"'),
    ],
)
def test_the_newest_version_is_this_one(path: str, pattern: str) -> None:
    found = re.search(pattern, (CHECKOUT / path).read_text("utf-8"), re.MULTILINE)
    assert found is not None
    assert found[1] == __version__


def pins(lock: Path) -> dict[str, str]:
    """The libraries of a lock file and their versions."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", lock.read_text("utf-8"), re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_file_pins_by_hash_and_names_no_index(lock: Path) -> None:
    text = lock.read_text("utf-8")
    blocks = re.split(r"\n(?=[a-z])", text.partition("\n#    make lock\n")[2])
    assert len(blocks) == len(pins(lock)) > 0
    for block in blocks:
        assert "--hash=sha256:" in block
    assert "http" not in text
    assert not re.search(r"^--?[a-z]", text, re.MULTILINE)


def test_the_lock_files_hold_what_setup_asks_for() -> None:
    runtime, development = (pins(PACKAGING / "requirements" / f"{name}.txt") for name in ("runtime", "development"))
    listed = (CHECKOUT / "setup.py").read_text("utf-8").partition("install_requires")[2].partition("entry_points")[0]
    needed = {name.lower() for name in re.findall(r'^ +"([\w.-]+)', listed, re.MULTILINE)} - {"dev"}
    assert needed <= set(development)
    assert {"gevent", "msal", "requests", "pyyaml", "python-json-logger"} <= set(runtime) & needed
    assert runtime.items() <= development.items(), "make lock writes both"
