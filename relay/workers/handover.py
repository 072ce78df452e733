# SPDX-License-Identifier: MIT
"""How a configuration gets from the parent, which has read and checked it, to processes that run already."""

from __future__ import annotations

import io
import os
import pickle
from typing import Any

from relay.config import Config
from relay.credentials import Secret
from relay.workers.memory import Lock, cells


class Handover:
    """The newest configuration, in a file that exists in memory alone, as the processes' own memory does."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._descriptor = os.memfd_create("graph-smtp-relay-config")
        self._number = cells(1)

    @property
    def number(self) -> int:
        """How many were given so far."""
        return int(self._number[0])

    def give(self, config: Config) -> int:
        """The number by which it is known from now on."""
        octets = io.BytesIO()
        _Pickler(octets).dump(config)
        with self._lock:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, octets.getvalue(), 0)
            self._number[0] += 1
        return self.number

    def take(self) -> tuple[int, Config]:
        """The newest, with its number."""
        with self._lock:
            number = self.number
            octets = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
        config: Config = pickle.loads(octets)  # noqa: S301 - nobody but our parent can write there
        return number, config


class _Pickler(pickle.Pickler):
    """Takes secrets too, which refuse to be pickled elsewhere, so that none gets anywhere by mistake."""

    def reducer_override(self, value: Any) -> Any:
        return (Secret, (value.reveal(),)) if isinstance(value, Secret) else NotImplemented
