# SPDX-License-Identifier: MIT
"""What was freed is taken again without asking the system, which is told by the pages that it had to bring."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_PROGRAM = """
import resource, sys
from relay import malloc
if sys.argv[1] == "keep":
    malloc.keep_some()
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def message():
    return [bytes(1_048_576) + b"." for _ in range(3)]
message()
before = pages()
for _ in range(40):
    message()
print(pages() - before)
"""


def pages_brought(how: str) -> int:
    """For 40 messages of three buffers of 1 MiB, that is 30,720 pages at most."""
    return int(subprocess.check_output([sys.executable, "-c", _PROGRAM, how], cwd=ROOT, text=True))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.skipif(any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ), reason="set already")
def test_freed_memory_is_used_again() -> None:
    assert pages_brought("keep") < pages_brought("leave") / 3  # or it is not needed any more


def test_nothing_happens_where_there_is_no_such_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    from relay import malloc

    monkeypatch.setattr(malloc.ctypes, "CDLL", lambda name: object())
    malloc.keep_some()
