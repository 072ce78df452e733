# SPDX-License-Identifier: MIT
"""auth_limit: a window that moves, networks instead of single IPv6 addresses, and memory that stays bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.config import AuthLimit
from relay.loginlimit import LoginLimit
from tests.support.clock import FakeClock

HERE = "192.0.2.1"


def limit(clock: FakeClock, failures: int = 3, window_s: int = 60) -> LoginLimit:
    return LoginLimit(AuthLimit(failures=failures, window_s=window_s), clock)


def test_the_window_moves(clock: FakeClock) -> None:
    logins = limit(clock)
    for _ in range(3):
        assert not logins.reached(HERE)
        logins.failed(HERE)
        clock.advance(20)
    # At 0, 20 and 40 s; it is 60 s, and the first one has just left the window.
    assert not logins.reached(HERE)
    logins.failed(HERE)
    assert logins.reached(HERE)
    clock.advance(19)
    assert logins.reached(HERE)
    clock.advance(1)
    assert not logins.reached(HERE)


def test_others_are_not_meant(clock: FakeClock) -> None:
    logins = limit(clock, failures=1)
    logins.failed(HERE)
    assert logins.reached(HERE)
    assert not logins.reached("192.0.2.2")


def test_ipv6_counts_by_its_first_64_bits(clock: FakeClock) -> None:
    logins = limit(clock, failures=2)
    logins.failed("2001:db8:0:1::1")
    logins.failed("2001:db8:0:1:ffff::2")
    assert logins.reached("2001:db8:0:1::3")
    assert not logins.reached("2001:db8:0:2::1")


def test_a_flood_of_addresses_is_forgotten_from_its_beginning(clock: FakeClock) -> None:
    logins = limit(clock, failures=1)
    addresses = [f"10.{a}.{b}.1" for a in range(50) for b in range(250)]
    for address in addresses:
        logins.failed(address)
    remembered = [address for address in addresses if logins.reached(address)]
    assert remembered == addresses[-10_000:]


def test_who_fails_on_is_not_pushed_out_by_a_flood(clock: FakeClock) -> None:
    logins = limit(clock, failures=2)
    for number in range(12_000):
        logins.failed(f"10.{number // 250}.{number % 250}.1")
        logins.failed(HERE)
    assert logins.reached(HERE)


def test_purge_forgets_who_was_quiet_for_a_window(clock: FakeClock) -> None:
    logins = limit(clock, failures=1)
    logins.failed(HERE)
    clock.advance(30)
    logins.failed("192.0.2.2")
    logins.purge()
    assert logins.reached(HERE)
    clock.advance(30)
    logins.purge()
    assert (logins.reached(HERE), logins.reached("192.0.2.2")) == (False, True)
    clock.advance(30)
    logins.purge()
    assert not logins.reached("192.0.2.2")


def test_another_limit_holds_for_who_failed_before(clock: FakeClock) -> None:
    """A reload changes it while failures are remembered."""
    logins = limit(clock, failures=2)
    logins.failed(HERE)
    logins.failed(HERE)
    logins.limit = AuthLimit(failures=3, window_s=60)
    assert not logins.reached(HERE)
    logins.failed(HERE)
    assert logins.reached(HERE)
    clock.advance(50)
    logins.failed(HERE)
    clock.advance(20)
    logins.limit = AuthLimit(failures=1, window_s=60)
    assert logins.reached(HERE)


@given(st.lists(st.tuples(st.sampled_from(["fail", "wait", "purge"]), st.integers(0, 30)), max_size=60))
def test_as_counted_by_hand(steps: list[tuple[str, int]]) -> None:
    clock = FakeClock()
    logins = limit(clock)
    times: list[float] = []
    for step, seconds in steps:
        if step == "fail":
            logins.failed(HERE)
            times.append(clock.monotonic())
        elif step == "wait":
            clock.advance(seconds)
        else:
            logins.purge()
        recent = [time for time in times if time > clock.monotonic() - 60]
        assert logins.reached(HERE) is (len(recent) >= 3)
