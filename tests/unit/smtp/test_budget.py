# SPDX-License-Identifier: MIT
"""The budget for all messages at a time: what is taken is given back, whoever takes it in whatever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.smtp.budget import Budget


def test_what_does_not_fit_takes_nothing() -> None:
    budget = Budget(10)
    first, second = budget.reservation(), budget.reservation()
    assert first.grow(6)
    assert not second.grow(5)
    assert (budget.used, budget.has_room(4), budget.has_room(5)) == (6, True, False)
    assert second.grow(4)
    first.release()
    assert budget.used == 4
    first.release()
    assert budget.used == 4, "a second release gives nothing back"


@given(st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), st.integers(0, 60))), max_size=60))
def test_never_over_the_limit_and_empty_at_the_end(steps: list[tuple[int, int | None]]) -> None:
    budget = Budget(100)
    reservations = [budget.reservation() for _ in range(5)]
    held = [0] * 5
    for number, octets in steps:
        if octets is None:
            reservations[number].release()
            held[number] = 0
        else:
            fits = sum(held) + octets <= 100
            assert reservations[number].grow(octets) is fits
            held[number] += octets if fits else 0
        assert budget.used == sum(held)
    for reservation in reservations:
        reservation.release()
    assert budget.used == 0
