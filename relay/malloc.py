# SPDX-License-Identifier: MIT
"""When the C library gives freed memory back to the system: glibc's mallopt(3). Others have no such setting."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES = 8 * 1024 * 1024
_OWN_MAP_BYTES = 2 * 1024 * 1024


def keep_some() -> None:
    """Keep 8 MiB of what was freed for the next message.

    glibc would give back each buffer of a message of 1 MiB, and the system would have to find and clear the same pages
    again for the next one: that took a third of all the time of such a message.
    """
    with suppress(OSError, AttributeError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _OWN_MAP_BYTES)
