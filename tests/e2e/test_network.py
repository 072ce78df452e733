# SPDX-License-Identifier: MIT
"""What stands between the relay and Microsoft: proxies, names that do not resolve, connections that have ended."""

from __future__ import annotations

import smtplib
from pathlib import Path
from typing import Any

import pytest

from tests.support.connect_proxy import ConnectProxy
from tests.support.relay_process import RelayProcess, config_for
from tests.support.sandbox_client import Upstream

SENDER, RECIPIENT = "me@example.com", "you@example.org"


def send(relay: RelayProcess) -> str:
    """Code and enhanced code: of AUTH where that fails, else of the data."""
    with relay.smtp() as client:
        try:
            client.login(SENDER, "x")
        except smtplib.SMTPAuthenticationError as refusal:
            return f"{refusal.smtp_code} {refusal.smtp_error.split()[0].decode()}"
        client.mail(SENDER)
        client.rcpt(RECIPIENT)
        code, text = client.data(f"From: {SENDER}\r\nTo: {RECIPIENT}\r\n\r\nText.\r\n")
    return f"{code} {text.split()[0].decode()}"


@pytest.fixture
def where(upstream: Upstream) -> str:
    return upstream.url.removeprefix("https://")


@pytest.mark.parametrize("password", ["", "user:p%40ss"])
def test_https_proxy(tmp_path: Path, upstream: Upstream, where: str, password: str) -> None:
    with ConnectProxy(password.replace("%40", "@")) as proxy:
        url = f"http://{password}{'@' if password else ''}127.0.0.1:{proxy.port}"
        with RelayProcess(tmp_path, config_for(upstream, https_proxy=url)) as relay:
            assert send(relay) == "250 2.0.0"
            assert set(proxy.asked) == {where}
            assert proxy.refused == 0
            assert "p@ss" not in relay.log_file.read_text() + relay.stderr
            relay.assert_sound()


def test_a_proxy_that_asks_for_a_password(tmp_path: Path, upstream: Upstream) -> None:
    with ConnectProxy("user:secret") as proxy:
        url = f"http://user:wr0ng@127.0.0.1:{proxy.port}"
        with RelayProcess(tmp_path, config_for(upstream, https_proxy=url)) as relay:
            assert send(relay) == "454 4.7.0"
            assert "https_proxy" in relay.wait_for("auth_unavailable")["reason"]
            assert proxy.refused
            assert "wr0ng" not in relay.log_file.read_text() + relay.stderr


@pytest.mark.parametrize(
    ("environment", "through"),
    [({}, True), ({"NO_PROXY": "127.0.0.1"}, False), ({"NO_PROXY": "example.com"}, True)],
    ids=["proxy", "no-proxy", "no-proxy-for-others"],
)
def test_the_environments_proxy(tmp_path: Path, upstream: Upstream, environment: dict[str, str], through: bool) -> None:
    with ConnectProxy() as proxy:
        env = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}", **environment}
        with RelayProcess(tmp_path, config_for(upstream), env=env) as relay:
            assert send(relay) == "250 2.0.0"
        assert bool(proxy.asked) is through


def test_connections_that_ended_while_they_rested(tmp_path: Path, upstream: Upstream) -> None:
    """The next request goes over a new one: neither a failure nor a doubt, and no message twice."""
    with ConnectProxy() as proxy:
        config = config_for(upstream, https_proxy=f"http://127.0.0.1:{proxy.port}")
        with RelayProcess(tmp_path, config) as relay:
            for _ in range(5):
                assert send(relay) == "250 2.0.0"
                proxy.end_tunnels()
            assert len(upstream.messages()) == 5
            assert relay.events("graph_retry") == []
            assert all("possible_duplicate" not in line for line in relay.events("delivered"))


def test_a_name_that_does_not_resolve(tmp_path: Path, upstream: Upstream) -> None:
    config: dict[str, Any] = config_for(upstream, graph_url="https://graph.invalid")
    config["oauth2_config"]["scopes"] = [f"{upstream.url}/.default"]
    with RelayProcess(tmp_path, config) as relay:
        assert send(relay) == "451 4.4.1"
        line = relay.wait_for("deferred")
        assert "DNS" in line["reason"]
        assert "possible_duplicate" not in line
