# SPDX-License-Identifier: MIT
"""When the parent wakes up."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from relay import configfile
from relay import supervisor as supervisor_module
from relay.listeners import Listeners
from relay.supervisor import Supervisor, _how_it_ended

CONFIG = """
oauth2_config:
  client_id: 00000000-0000-0000-0000-000000000001
  client_secret: secret
  tenant_id: example.com
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [(1, "ended with exit code 1"), (-9, "was killed by SIGKILL"), (-40, "was killed by signal 40")],
)
def test_how_a_process_ended(code: int, said: str) -> None:
    """One without a name must not keep the next one from being started."""
    assert _how_it_ended(code) == said


def test_a_stop_waits_for_nobody_who_was_to_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would go round and round until the last worker has drained."""
    monkeypatch.setattr(signal, "pthread_sigmask", lambda *_: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(supervisor_module, "Shared", lambda config, workers: None)  # nobody is there to share it
    config = configfile.parse(CONFIG, name="config.yaml", directory=Path(), environ={})
    config = replace(config, limits=replace(config.limits, shutdown_timeout_s=1000.0))
    supervisor = Supervisor(config, lambda: config, 2)
    supervisor._listeners = Listeners((), (), None)
    supervisor._members[0].due = 0.0
    assert supervisor._patience_s() == 0
    supervisor._stop("SIGTERM")
    assert supervisor._patience_s() > 100
