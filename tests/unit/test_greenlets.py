# SPDX-License-Identifier: MIT
"""Signals, in a process of their own; the alarm of a connection's waits."""

from __future__ import annotations

import subprocess
import sys
import time
import weakref

import gevent
import pytest
from gevent.event import Event

from relay.greenlets import Alarm

TWO_SIGNALS = """
import gevent, os, signal
from relay.greenlets import Event, on_signal

said, go_on = [], Event()

def act():
    said.append("begin")
    go_on.wait()
    said.append("end")

on_signal(signal.SIGUSR1, act)
for _ in range(2):
    os.kill(os.getpid(), signal.SIGUSR1)
    while not said:
        gevent.sleep(0.01)
gevent.sleep(0.1)
go_on.set()
while said.count("end") < 2:
    gevent.sleep(0.01)
print(*said)
"""


def test_a_signal_is_acted_upon_once_the_one_before_is() -> None:
    """Two reloads at a time: else the first could end last, and its configuration stay."""
    result = subprocess.run([sys.executable, "-c", TWO_SIGNALS], capture_output=True, text=True, check=True)
    assert result.stdout == "begin end begin end\n"


def wait_for_ever(alarm: Alarm, seconds: float) -> None:
    with alarm.within(seconds):
        Event().wait()


@pytest.mark.parametrize("earlier_s", [(), (0.001,), (3600,), (3600, 0.001)])
def test_an_alarm_goes_off_when_the_time_is_up(earlier_s: tuple[float, ...]) -> None:
    """Neither sooner nor later for what was waited for before, whose timer may still run, or have gone off."""
    alarm = Alarm()
    for seconds in earlier_s:
        with alarm.within(seconds):
            pass
        gevent.sleep(0.02)
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        wait_for_ever(alarm, 0.1)
    assert time.monotonic() - start >= 0.1
    with pytest.raises(TimeoutError):  # and again
        wait_for_ever(alarm, 0.001)
    alarm.close()


def test_an_alarm_strikes_its_own_greenlet_and_only_within() -> None:
    def session(seconds: float) -> str:
        alarm = Alarm()
        try:
            with alarm.within(seconds):
                gevent.sleep(0)
            gevent.sleep(0.05)  # for something else, which has a time of its own
            wait_for_ever(alarm, seconds)
        except TimeoutError:
            return "timed out"
        finally:
            alarm.close()
        return "went on"

    sessions = [gevent.spawn(session, seconds) for seconds in (0.001, 0.01, 0.1)]
    bystander = gevent.spawn(gevent.sleep, 0.2)
    gevent.joinall([*sessions, bystander], raise_error=True)
    assert [greenlet.get() for greenlet in sessions] == ["timed out"] * 3


def session_with_an_alarm(seconds: float, *, closes: bool) -> weakref.ref[gevent.Greenlet]:
    def session() -> None:
        alarm = Alarm()
        with alarm.within(seconds):
            pass
        if closes:
            alarm.close()

    greenlet = gevent.spawn(session)
    greenlet.get()
    return weakref.ref(greenlet)


def test_an_alarm_that_is_closed_leaves_nothing_behind() -> None:
    seen = session_with_an_alarm(3600, closes=True)
    gevent.sleep(0)
    assert seen() is None


def test_an_alarm_that_nobody_closed_ends_by_itself() -> None:
    seen = session_with_an_alarm(0.01, closes=False)
    while seen() is not None:
        gevent.sleep(0.01)
