# SPDX-License-Identifier: MIT
"""Whether and when to try again. Pure: no clock, no chance, no network."""

from __future__ import annotations

from dataclasses import dataclass

from relay.graph.errors import UpstreamError

LONGEST_WAIT_S = 10.0  # of our own choosing; Retry-After may ask for more
LONGEST_RETRY_AFTER_S = 60.0
UNKNOWN_OUTCOME_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    attempts: int
    initial_delay_s: float
    repeat_unknown: bool = True  # ambiguous_outcome: also behind a failure after which the message may have gone


def next_delay_s(tries: int, failure: UpstreamError, left_s: float, policy: RetryPolicy, draw: float) -> float | None:
    """Seconds to wait before the next try, or None to give up.

    tries: requests made so far, from 1. left_s: what is left of the deadline. draw: in [0, 1), for the jitter, given by
    the caller so that a test can repeat it. Never less than failure.retry_after_s; None when that does not fit into
    60 s or into the deadline. Behind a failure after which the message may have gone, the wait is at least 5 s.
    Source: RFC 9110 §10.2.3 (Retry-After); docs/design.md, "Retries".
    """
    if not failure.transient or tries >= policy.attempts:
        return None
    if failure.may_have_been_sent and not policy.repeat_unknown:
        return None
    exponential = policy.initial_delay_s * 2.0 ** min(tries - 1, 30)
    delay = min(exponential * (1 + draw / 4), LONGEST_WAIT_S)
    if failure.may_have_been_sent:
        delay = max(delay, UNKNOWN_OUTCOME_WAIT_S)
    if failure.retry_after_s is not None:
        if failure.retry_after_s > LONGEST_RETRY_AFTER_S:
            return None
        delay = max(delay, failure.retry_after_s)
    return delay if delay < left_s else None
