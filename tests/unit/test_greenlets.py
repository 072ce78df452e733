# SPDX-License-Identifier: MIT
"""Signals, in a process of their own."""

from __future__ import annotations

import subprocess
import sys

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
