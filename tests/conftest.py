# SPDX-License-Identifier: MIT
"""What all tests share: the seed of this run, and the loggers as they were."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("tests.support.relay_process")

from tests.support.clock import FakeClock  # noqa: E402 - after the line above

# Another seed each run, always printed; RELAY_TEST_SEED repeats one.
SEED = os.environ.get("RELAY_TEST_SEED") or str(random.randrange(1 << 32))

# The same examples on each run; the machine's load decides nothing.
settings.register_profile(
    "relay",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # how slow the machine is proves nothing
    max_examples=60,
    database=None,
)
settings.load_profile("relay")

# A shell has what it runs in the background ignore SIGINT, and all that is started from there would too.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    return f"segments of the dialogues: RELAY_TEST_SEED={SEED}"


@pytest.fixture(scope="session")
def seed() -> str:
    return SEED


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("relay")
    before = root.handlers[:], root.level, ours.handlers[:], ours.level
    yield
    for left in set(root.handlers) - set(before[0]):
        with contextlib.suppress(OSError):
            left.close()
    root.handlers[:], ours.handlers[:] = before[0], before[2]
    root.setLevel(before[1])
    ours.setLevel(before[3])
