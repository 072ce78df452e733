# SPDX-License-Identifier: MIT
"""What processes use, with their children (Linux: /proc, clock_getcpuclockid(3))."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> Iterator[int]:
    """The process and all that it has started and that live."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:  # gone
        return
    for child in children:
        yield from family(int(child))


def cpu_s(pid: int) -> float:
    """CPU seconds used so far, user and system, all threads, to the nanosecond; of children that ended, to 10 ms."""
    return sum(time.clock_gettime((~member << 3) | 2) + _children_ended_s(member) for member in family(pid))


def memory_kib(pid: int, field: str = "VmRSS") -> int:
    """Resident memory: now, or at the most since reset_peak() with VmHWM."""
    return sum(_status_kib(member, field) for member in family(pid))


def reset_peak(pid: int) -> None:
    """VmHWM starts again from what is resident now (proc(5), clear_refs)."""
    for member in family(pid):
        Path(f"/proc/{member}/clear_refs").write_text("5", encoding="ascii")


def _children_ended_s(pid: int) -> float:
    """What those took that it has waited for (proc(5), stat: cutime and cstime)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / _TICKS_A_SECOND


def _status_kib(pid: int, field: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field))
