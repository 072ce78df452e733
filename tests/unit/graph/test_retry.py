# SPDX-License-Identifier: MIT
"""Whether and when to try again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.graph import errors
from relay.graph.errors import GraphError
from relay.graph.retry import RetryPolicy, next_delay_s

POLICY = RetryPolicy(attempts=10, initial_delay_s=0.5)
KINDS: list[type[GraphError]] = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GraphError)),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize(("tries", "delay"), [(1, 0.5), (2, 1), (3, 2), (4, 4), (5, 8), (6, 10), (9, 10)])
def test_exponential_up_to_ten_seconds(tries: int, delay: float) -> None:
    assert next_delay_s(tries, errors.ServerBusy(), 100, POLICY, draw=0) == delay


def test_jitter_adds_at_most_a_quarter() -> None:
    assert next_delay_s(1, errors.ServerBusy(), 100, POLICY, draw=0.999) == pytest.approx(0.625, abs=0.001)


def test_attempts() -> None:
    policy = RetryPolicy(3, 0.5)
    assert [next_delay_s(tries, errors.ServerBusy(), 100, policy, 0) for tries in (1, 2, 3, 4)] == [0.5, 1, None, None]
    assert next_delay_s(1, errors.ServerBusy(), 100, RetryPolicy(1, 0.5), 0) is None
    assert next_delay_s(5000, errors.ServerBusy(), 100, RetryPolicy(10_000, 0.5), 0) == 10


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_passes_is_tried_again(kind: type[GraphError]) -> None:
    assert (next_delay_s(1, kind(), 100, POLICY, 0) is not None) == kind.transient


def test_retry_after() -> None:
    """Never sooner; and what does not fit into 60 s is answered at once (contract §6)."""

    def after(seconds: float, left_s: float = 100) -> float | None:
        return next_delay_s(1, errors.Throttled(retry_after_s=seconds), left_s, POLICY, 0)

    assert after(0) == 0.5
    assert after(7) == 7
    assert after(30) == 30, "our own ceiling of ten seconds is not Graph's"
    assert after(60) == 60
    assert after(60.5) is None
    assert after(30, left_s=29) is None


def test_after_an_unknown_outcome_at_least_five_seconds() -> None:
    assert next_delay_s(1, errors.OutcomeUnknown(), 100, POLICY, 0) == 5
    assert next_delay_s(6, errors.OutcomeUnknown(), 100, POLICY, 0) == 10
    assert next_delay_s(1, errors.OutcomeUnknown(), 4, POLICY, 0) is None


@given(
    st.integers(1, 200),
    st.sampled_from(KINDS),
    st.none() | st.floats(0, 1e9),
    st.floats(0, 1e4),
    st.integers(1, 100),
    st.floats(0.001, 60),
    st.floats(0, 1, exclude_max=True),
)
def test_what_always_holds(
    tries: int,
    kind: type[GraphError],
    retry_after_s: float | None,
    left_s: float,
    attempts: int,
    initial: float,
    draw: float,
) -> None:
    failure = kind(retry_after_s=retry_after_s)
    delay = next_delay_s(tries, failure, left_s, RetryPolicy(attempts, initial), draw)
    if delay is None:
        return
    assert tries < attempts
    assert kind.transient
    assert 0 < delay < left_s
    assert delay >= (retry_after_s or 0)
    assert delay >= 5 or not kind.may_have_been_sent
    assert delay <= max(10, retry_after_s or 0) <= 60


def test_give_up_where_the_message_may_have_gone() -> None:
    policy = RetryPolicy(3, 0.5, repeat_unknown=False)
    assert next_delay_s(1, errors.OutcomeUnknown(), 100, policy, 0) is None
    assert next_delay_s(1, errors.ServerBusy(), 100, policy, 0) == 0.5
