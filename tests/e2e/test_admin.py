# SPDX-License-Identifier: MIT
"""The admin page of a real process: its numbers move with the mail, /readyz with the upstream (contract §8)."""

from __future__ import annotations

import base64
import json
import re
import signal
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay.credentials import hash_password
from tests.e2e.conftest import Login
from tests.support.relay_process import CLIENT_SECRET, PATIENCE_S, RelayProcess, config_for, wait_until
from tests.support.sandbox_client import Upstream


@pytest.fixture(scope="module")
def relay_keys() -> dict[str, Any]:
    return {"admin_addr": "127.0.0.1:0", "retry_attempts": 1}


def address(relay: RelayProcess) -> str:
    return str(relay.wait_for("admin_listening")["address"])


def get(where: str, path: str = "/", password: str = "") -> tuple[int, str]:
    """Status and text."""
    request = urllib.request.Request(f"http://{where}{path}")
    if password:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"x:{password}".encode()).decode("ascii"))
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310 - always http
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()


def metric(where: str, name: str, **labels: str) -> float:
    """The value of one sample; 0 where it is not there."""
    for family in text_string_to_metric_families(get(where, "/metrics")[1]):
        for sample in family.samples:
            if sample.name == f"graph_smtp_relay_{name}" and labels.items() <= sample.labels.items():
                return float(sample.value)
    return 0.0


def send(relay: RelayProcess, login: Login, size: int = 10) -> int:
    with relay.smtp(login.user, login.password) as client:
        client.mail(login.user)
        client.rcpt("you@example.org")
        return client.data(f"From: {login.user}\r\nSubject: Geheim\r\n\r\n{'x' * 70}\r\n" * size)[0]


def test_numbers_move_with_the_mail(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    where = address(relay)
    before = metric(where, "messages_total", result="delivered", reply="250 2.0.0")
    assert send(relay, login) == 250
    assert metric(where, "messages_total", result="delivered", reply="250 2.0.0") == before + 1
    upstream.fault(kind="sendMail", status=403, code="ErrorSendAsDenied")
    assert send(relay, login) == 550
    assert metric(where, "messages_total", result="rejected", reply="550 5.7.60") == 1
    assert metric(where, "tokens") >= 1
    assert metric(where, "upstream_requests_total", service="graph", status="202") >= 1
    assert metric(where, "upstream_requests_total", service="entra", status="200") >= 1
    rejected, delivered = json.loads(get(where, f"/state.json?q={login.user}")[1])["messages"]
    assert rejected[9] == "rejected 550 5.7.60"
    assert "Send As" in rejected[10]
    assert delivered[3:5] == [login.user, "you@example.org"]
    shown = "".join(get(where, path)[1] for path in ("/", "/state.json", "/metrics"))
    assert login.user in shown
    for secret in (login.password, CLIENT_SECRET, "Geheim", "xxxx", "eyJ"):
        assert secret not in shown


def test_connections_and_refusals(relay: RelayProcess) -> None:
    where = address(relay)
    with relay.smtp(), relay.smtp():
        assert metric(where, "connections") == 2
    wait_until(lambda: metric(where, "connections") == 0, "the sessions to end")
    with relay.smtp() as client:
        assert client.docmd("AUTH", "PLAIN AHgA")[0] == 535
    assert metric(where, "events_total", event="auth_failed") >= 1


def test_readiness_turns(tmp_path: Path, upstream: Upstream) -> None:
    keys = {"fallback_smtp_user": "fallback@example.com", "fallback_smtp_pass": "x", "admin_addr": "127.0.0.1:0"}
    with RelayProcess(tmp_path, config_for(upstream, **keys)) as relay:
        where = address(relay)
        wait_until(lambda: get(where, "/readyz")[0] == 200, "readiness without any mail")
        assert metric(where, "tokens") == 1, "the fallback's token was had ahead"
        upstream.fault(kind="sendMail", status=503, count=-1)
        assert send(relay, Login("fallback@example.com", "x")) == 451
        assert get(where, "/readyz") == (503, "not ready\n")
        assert get(where, "/healthz") == (200, "ok\n")
        assert json.loads(get(where, "/state.json")[1])["state"] == "degraded"
        upstream.reset()
        assert send(relay, Login("fallback@example.com", "x")) == 250
        assert get(where, "/readyz")[0] == 200


def test_not_ready_without_a_token(tmp_path: Path, upstream: Upstream) -> None:
    config = config_for(upstream, fallback_smtp_user="f@example.com", fallback_smtp_pass="x", admin_addr="127.0.0.1:0")
    config["oauth2_config"] = {**config["oauth2_config"], "client_secret": "wrong-secret"}
    with RelayProcess(tmp_path, config) as relay:
        where = address(relay)
        state = wait_until(lambda: json.loads(get(where, "/state.json")[1])["troubles"], "the state to be degraded")
        assert "client secret is wrong" in state[0]
        assert get(where, "/readyz")[0] == 503


def test_a_refused_password_is_not_tried_again(tmp_path: Path, upstream: Upstream) -> None:
    keys = {"fallback_smtp_user": "aadsts50126@example.com", "fallback_smtp_pass": "x", "admin_addr": "127.0.0.1:0"}
    with RelayProcess(tmp_path, config_for(upstream, **keys)) as relay:
        where = address(relay)
        wait_until(lambda: "password is wrong" in get(where)[1], "the refusal")
        assert get(where, "/readyz")[0] == 503
    assert upstream.stats()["requests"]["token"] == {"400": 1}


def test_the_password(tmp_path: Path, upstream: Upstream) -> None:
    keys = {"admin_addr": "127.0.0.1:0", "admin_password_hash": hash_password("Schlüssel")}
    with RelayProcess(tmp_path, config_for(upstream, **keys)) as relay:
        where = address(relay)
        assert get(where)[0] == get(where, "/metrics")[0] == 401
        assert get(where, password="Schlüssel")[0] == 200
        assert get(where, "/healthz")[0] == 200
        assert get(where, password="wrong")[0] == 401
        assert relay.wait_for("admin_login_failed")["client"] == "127.0.0.1"


@pytest.mark.parametrize(("days", "level"), [(20, "warning"), (3, "error"), (-2, "error"), (40, "")])
def test_the_secrets_end(tmp_path: Path, upstream: Upstream, days: int, level: str) -> None:
    expires = (datetime.now(UTC) + timedelta(days=days)).date().isoformat()
    with RelayProcess(tmp_path, config_for(upstream, secret_expires=expires, admin_addr="127.0.0.1:0")) as relay:
        left = metric(address(relay), "secret_expiry_seconds") / 86400
        assert days - 1 <= left <= days
        if level:
            line = relay.wait_for("secret_expires")
            assert line["level"] == level
            assert abs(line["days_left"] - days) <= 1  # midnight may have passed
        else:
            assert relay.events("secret_expires") == []


def test_the_port_is_taken(tmp_path: Path, upstream: Upstream, relay: RelayProcess) -> None:
    config = config_for(upstream, admin_addr=address(relay))
    second = RelayProcess(tmp_path, config)
    with second.stdout_file.open("wb") as stdout:
        second.start(stdout)
    assert second.wait() == 1
    assert re.search(r"cannot listen on 127.0.0.1:\d+: the address is in use", second.stderr)


def test_reload_keeps_the_numbers(tmp_path: Path, upstream: Upstream, login: Login) -> None:
    keys = {"admin_addr": "127.0.0.1:0"}
    with RelayProcess(tmp_path, config_for(upstream, **keys)) as relay:
        where = address(relay)
        assert send(relay, login) == 250
        relay.write_config(config_for(upstream, max_recipients=7, **keys))
        relay.signal(signal.SIGHUP)
        relay.wait_for("reloaded")
        assert metric(where, "messages_total", result="delivered", reply="250 2.0.0") == 1
        relay.write_config(config_for(upstream, admin_addr="127.0.0.1:1"))
        relay.signal(signal.SIGHUP)
        assert "admin_addr" in relay.wait_for("restart_needed")["reason"]


def test_what_is_too_large_is_counted(tmp_path: Path, upstream: Upstream, login: Login) -> None:
    with RelayProcess(tmp_path, config_for(upstream, admin_addr="127.0.0.1:0", max_message_size=1000)) as relay:
        assert send(relay, login, 50) == 552
        assert metric(address(relay), "messages_total", result="rejected", reply="552 5.3.4") == 1


def test_the_sandbox_shows_its_mails(tmp_path: Path) -> None:
    arguments = ("sandbox", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level", "info")
    with RelayProcess(tmp_path, {}, arguments=arguments) as relay:
        found = wait_until(lambda: re.search("http://(.+)/", relay.stdout_file.read_text()), "the page's address")
        assert found is not None
        where = found[1]
        assert send(relay, Login("me@example.com", "x")) == 250
        page = get(where)[1]
        assert '<a href="/mails/1">Geheim</a>' in page
        assert "you@example.org" in get(where, "/mails/1")[1]
        assert json.loads(get(where, "/mails/1/source")[1])["subject"] == "Geheim"
