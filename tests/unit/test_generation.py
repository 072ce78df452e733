# SPDX-License-Identifier: MIT
"""What a session is given of the configuration, and of the machine."""

from __future__ import annotations

import socket

import pytest

from relay.clock import Clock
from relay.config import Config, ListenConfig
from relay.generation import session_settings
from relay.smtp.budget import Budget
from relay.stats import Stats


@pytest.mark.parametrize(
    ("name", "shown"), [("relay.example.com", "relay.example.com"), ("büro", "localhost"), ("", "localhost")]
)
def test_the_machines_name(name: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that no reply can hold would end every session with its greeting."""
    monkeypatch.setattr(socket, "getfqdn", lambda: name)
    settings = session_settings(Config(), Budget(1), Stats(Clock()))
    assert settings.greeting.octets.startswith(f"220 {shown} ESMTP".encode())


def test_the_configurations_name_goes_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: "machine.example")
    config = Config(listen=ListenConfig(hostname="relay.example"))
    assert session_settings(config, Budget(1), Stats(Clock())).hostname == "relay.example"
