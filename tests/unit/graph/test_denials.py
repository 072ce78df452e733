# SPDX-License-Identifier: MIT
"""A mailbox that was denied is left alone for ten minutes, in whatever case it is written, and then forgotten."""

from __future__ import annotations

import sys

from relay.graph.denials import DENIED_FOR_S, Denials
from tests.support.clock import FakeClock


def test_ten_minutes() -> None:
    clock = FakeClock()
    denials = Denials(clock)
    denials.add("Scanner@example.com")
    assert "other@example.com" not in denials
    clock.advance(DENIED_FOR_S - 1)
    denials.purge()
    assert "scanner@EXAMPLE.com" in denials
    clock.advance(1)
    assert "scanner@example.com" not in denials


def test_nothing_is_remembered_for_ever() -> None:
    clock = FakeClock()
    denials = Denials(clock)
    empty = sys.getsizeof(denials._until)
    for number in range(1000):
        denials.add(f"{number}@example.com")
    clock.advance(DENIED_FOR_S)
    denials.purge()
    assert sys.getsizeof(denials._until) <= empty + 200
