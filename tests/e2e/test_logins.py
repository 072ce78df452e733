# SPDX-License-Identifier: MIT
"""Contract §6 and §7 on AUTH: who is told 535 and who 454, what is remembered, and how often Entra ID is asked."""

from __future__ import annotations

import signal
import smtplib
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Login
from tests.support.relay_process import RelayProcess, config_for
from tests.support.sandbox_client import Upstream

ALICE = Login("alice@example.com", "Passwort für Alice")


@pytest.fixture(scope="module")
def upstream_settings() -> dict[str, Any]:
    names = ("many", "brake", "bystander")
    known = [ALICE, *(Login(f"{name}@example.com", "right") for name in names)]
    return {"users": {login.user: login.password for login in known}}


def plain(user: str, password: str) -> str:
    return b64encode(f"\0{user}\0{password}".encode()).decode("ascii")


def log_in(relay: RelayProcess, user: str, password: str) -> str:
    """Code and enhanced code that AUTH PLAIN is answered with."""
    with relay.smtp() as client:
        code, text = client.docmd("AUTH", "PLAIN " + plain(user, password))
        return f"{code} {text.decode('ascii').split()[0]}"


def token_requests(upstream: Upstream) -> int:
    return sum(upstream.stats()["requests"].get("token", {}).values())


# The sandbox answers a login such as aadsts50076@example.com with that error.
DEVICE_AT_FAULT = [50126, 50034, 50056, 50055, 50057, 50105, 50144, 50072, 50074, 50076, 50079, 50158, 53003, 530035]
PASSING = [50053, 50196, 80001, 80014]
APP_AT_FAULT = [65001, 7000215, 7000222, 700016, 90002, 50059]


@pytest.mark.parametrize("code", DEVICE_AT_FAULT)
def test_535_where_the_device_is_at_fault(relay: RelayProcess, code: int) -> None:
    user = f"aadsts{code}@example.com"
    assert log_in(relay, user, "x") == "535 5.7.8"
    line = relay.wait_for("auth_failed", user=user)
    assert (line["level"], line["entra_code"]) == ("warning", f"AADSTS{code}")
    assert line["reason"]
    assert line["client"] == "127.0.0.1"


@pytest.mark.parametrize("code", PASSING)
def test_454_where_it_may_work_later(relay: RelayProcess, code: int) -> None:
    user = f"aadsts{code}@example.com"
    assert log_in(relay, user, "x") == "454 4.7.0"
    line = relay.wait_for("auth_unavailable", user=user)
    assert line["level"] == "error"
    assert line["reason"]


@pytest.mark.parametrize("code", APP_AT_FAULT)
def test_454_where_the_app_is_at_fault(relay: RelayProcess, code: int) -> None:
    user = f"aadsts{code}@example.com"
    assert log_in(relay, user, "x") == "454 4.7.0"
    line = relay.wait_for("auth_unavailable", user=user)
    assert (line["level"], line["entra_code"]) == ("error", f"AADSTS{code}")
    assert line["reason"]
    assert log_in(relay, "bystander@example.com", "right") == "235 2.7.0", "said to one login, it holds for no other"


def test_a_wrong_client_secret(tmp_path: Path, upstream: Upstream) -> None:
    config = config_for(upstream)
    config["oauth2_config"] = {**config["oauth2_config"], "client_secret": "wrong-secret"}
    with RelayProcess(tmp_path / "relay", config) as relay:
        assert log_in(relay, ALICE.user, ALICE.password) == "454 4.7.0"
        assert "client_secret" in relay.wait_for("auth_unavailable")["reason"]


def test_an_unknown_tenant(tmp_path: Path, upstream: Upstream) -> None:
    config = config_for(upstream)
    config["oauth2_config"] = {**config["oauth2_config"], "tenant_id": "another.example"}
    with RelayProcess(tmp_path / "relay", config) as relay:
        assert log_in(relay, ALICE.user, ALICE.password) == "454 4.7.0"
        assert "tenant_id" in relay.wait_for("auth_unavailable")["reason"]


def test_a_federated_user(relay: RelayProcess) -> None:
    assert log_in(relay, "someone@federated.example", "x") == "535 5.7.8"
    assert "federated" in relay.wait_for("auth_failed", user="someone@federated.example")["reason"]


def test_a_wrong_password_while_a_token_is_cached(relay: RelayProcess, upstream: Upstream) -> None:
    assert log_in(relay, ALICE.user, ALICE.password) == "235 2.7.0"
    assert token_requests(upstream) == 1
    assert log_in(relay, ALICE.user, "wrong") == "535 5.7.8"
    assert token_requests(upstream) == 2
    assert log_in(relay, ALICE.user, ALICE.password) == "235 2.7.0"  # the wrong one has not spoiled the right one
    assert log_in(relay, ALICE.user.upper(), ALICE.password) == "235 2.7.0"
    assert token_requests(upstream) == 2


def test_the_same_wrong_password_asks_entra_once(relay: RelayProcess, upstream: Upstream) -> None:
    for _ in range(3):
        assert log_in(relay, "brake@example.com", "wrong") == "535 5.7.8"
    assert token_requests(upstream) == 1
    assert log_in(relay, "brake@example.com", "another") == "535 5.7.8"
    assert log_in(relay, "brake@example.com", "right") == "235 2.7.0"
    assert token_requests(upstream) == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reload_does_not_forget_what_entra_refused(tmp_path: Path, upstream: Upstream, workers: int) -> None:
    """logrotate sends SIGHUP; that must not count as a new try of a wrong password, nor of a locked account."""
    config = config_for(upstream, workers=workers)
    with RelayProcess(tmp_path, config) as relay:
        assert log_in(relay, "brake@example.com", "wrong") == "535 5.7.8"
        assert log_in(relay, "aadsts50053@example.com", "x") == "454 4.7.0"
        asked = token_requests(upstream)
        relay.signal(signal.SIGHUP)
        relay.wait_for("reloaded")
        for _ in range(4):  # by whatever worker
            assert log_in(relay, "brake@example.com", "wrong") == "535 5.7.8"
            assert log_in(relay, "aadsts50053@example.com", "x") == "454 4.7.0"
        assert token_requests(upstream) == asked


def test_a_reload_with_another_app_asks_again(tmp_path: Path, upstream: Upstream) -> None:
    config = config_for(upstream)
    with RelayProcess(tmp_path, config) as relay:
        assert log_in(relay, "brake@example.com", "wrong") == "535 5.7.8"
        asked = token_requests(upstream)
        relay.write_config({**config, "oauth2_config": {**config["oauth2_config"], "client_secret": "another"}})
        relay.signal(signal.SIGHUP)
        relay.wait_for("reloaded")
        assert log_in(relay, "brake@example.com", "wrong") == "454 4.7.0"
        assert token_requests(upstream) == asked + 1


def test_fifty_logins_of_one_user_at_once_ask_entra_once(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.fault(kind="token", delay_s=0.3)
    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(lambda _: log_in(relay, "many@example.com", "right"), range(50)))
    assert answers == ["235 2.7.0"] * 50
    assert token_requests(upstream) == 1


def test_a_slow_login_holds_up_nobody_else(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.fault(kind="token", user="nobody@example.com", hold=True)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(log_in, relay, "nobody@example.com", "x")
        assert log_in(relay, ALICE.user, ALICE.password) == "235 2.7.0"
        assert not slow.done()
        upstream.release()
        assert slow.result() == "535 5.7.8"


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503, "code": "90024"},
        {"status": 503, "body": "html"},
        {"status": 429, "retry_after": "30"},
        {"status": 200, "body": "html"},
        {"reset": "after_body"},
    ],
    ids=["503", "503-html", "429", "html", "reset"],
)
def test_entra_out_of_order(tmp_path: Path, upstream: Upstream, fault: dict[str, Any]) -> None:
    with RelayProcess(tmp_path / "relay", config_for(upstream)) as relay:
        upstream.fault(kind="token", **fault)
        assert log_in(relay, ALICE.user, ALICE.password) == "454 4.7.0"
        assert relay.wait_for("auth_unavailable")["reason"]
        relay.assert_sound()


def test_one_users_bad_answer_is_not_everybodys(tmp_path: Path, upstream: Upstream) -> None:
    with RelayProcess(tmp_path / "relay", config_for(upstream)) as relay:
        upstream.fault(kind="token", user="brake@example.com", status=429, retry_after="30")
        assert log_in(relay, "brake@example.com", "right") == "454 4.7.0"
        assert log_in(relay, ALICE.user, ALICE.password) == "235 2.7.0"


def test_the_third_failed_login_ends_the_connection(relay: RelayProcess) -> None:
    with relay.smtp() as client:
        for _ in range(3):
            assert client.docmd("AUTH", "PLAIN " + plain("stranger@example.com", "x"))[0] == 535
        assert client.getreply()[0] == 421
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.noop()
