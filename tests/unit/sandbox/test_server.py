# SPDX-License-Identifier: MIT
"""The sandbox as a process, over TLS: msal signs in, requests sends, faults strike as scripted."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msal
import pytest
import requests

from tests.support.sandbox_client import Upstream
from tests.unit.sandbox.tenant import USER, payload

CLIENT_ID = "00000000-0000-0000-0000-000000000001"
SCOPES = ["https://graph.microsoft.com/.default"]


class HttpClient:
    """What msal sends its requests with. It asks the user realm on the bare host name; this puts the port back."""

    def __init__(self, upstream: Upstream, session: requests.Session) -> None:
        self._session = session
        self._url = upstream.url
        self._bare = upstream.url.rpartition(":")[0] + "/"

    def get(self, url: str, **options: Any) -> requests.Response:
        return self._session.get(url.replace(self._bare, self._url + "/"), timeout=20, **options)

    def post(self, url: str, **options: Any) -> requests.Response:
        return self._session.post(url.replace(self._bare, self._url + "/"), timeout=20, **options)

    def close(self) -> None:
        """The session is closed by who made it."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    with Upstream(tmp_path_factory.mktemp("sandbox"), users={USER: "secret"}) as upstream:
        yield upstream


@pytest.fixture
def upstream(running: Upstream) -> Upstream:
    running.reset()
    return running


@pytest.fixture
def session(upstream: Upstream) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False  # else REQUESTS_CA_BUNDLE goes before verify
        session.verify = str(upstream.ca_file)
        yield session


@pytest.fixture
def app(upstream: Upstream, session: requests.Session) -> msal.ConfidentialClientApplication:
    return msal.ConfidentialClientApplication(
        CLIENT_ID,
        client_credential="sandbox-secret",
        authority=f"{upstream.url}/sandbox",
        instance_discovery=False,
        http_client=HttpClient(upstream, session),
    )


@pytest.fixture
def token(upstream: Upstream, session: requests.Session) -> str:
    form = {
        "grant_type": "password",
        "client_id": CLIENT_ID,
        "client_secret": "sandbox-secret",
        "username": USER,
        "password": "secret",
        "scope": SCOPES[0],
    }
    answer = session.post(f"{upstream.url}/sandbox/oauth2/v2.0/token", data=form, timeout=20)
    return str(answer.json()["access_token"])


def send(upstream: Upstream, session: requests.Session, token: str, timeout: float = 20) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}", "client-request-id": "c-9"}
    url = f"{upstream.url}/v1.0/users/{USER}/sendMail"
    return session.post(url, json=payload(), headers=headers, timeout=timeout)


def drain(connection: socket.socket) -> None:
    """Read to the end: TLS session tickets may come before what ends it."""
    while connection.recv(65536):
        pass


def test_msal_gets_a_token_that_graph_takes(
    upstream: Upstream, session: requests.Session, app: msal.ConfidentialClientApplication
) -> None:
    result = app.acquire_token_by_username_password(USER, "secret", SCOPES)
    assert result["id_token_claims"]["preferred_username"] == USER
    answer = send(upstream, session, result["access_token"])
    assert (answer.status_code, answer.content) == (202, b"")
    assert answer.headers["client-request-id"] == "c-9"
    assert answer.headers["request-id"]
    (message,) = upstream.messages()
    assert message["message"] == payload()["message"]
    assert (message["mailbox"], message["to"], message["number"]) == (USER, ["a@example.com"], 1)
    (account,) = app.get_accounts(USER)
    assert app.acquire_token_silent(SCOPES, account=account)["access_token"] == result["access_token"]


def test_msal_gets_errors_as_from_entra(app: msal.ConfidentialClientApplication) -> None:
    wrong = app.acquire_token_by_username_password(USER, "wrong", SCOPES)
    assert (wrong["error"], wrong["error_codes"]) == ("invalid_grant", [50126])
    mfa = app.acquire_token_by_username_password("aadsts50076@example.com", "x", SCOPES)
    assert (mfa["error"], mfa["error_codes"]) == ("interaction_required", [50076])
    with pytest.raises(RuntimeError, match="FailedAuthentication"):
        app.acquire_token_by_username_password("x@federated.example", "secret", SCOPES)


def test_msal_gets_a_token_for_the_application(app: msal.ConfidentialClientApplication) -> None:
    assert "access_token" in app.acquire_token_for_client(SCOPES)


def test_statuses_and_retry_after(upstream: Upstream, session: requests.Session, token: str) -> None:
    upstream.fault(kind="sendMail", user=USER, status=429, retry_after="7")
    upstream.fault(kind="sendMail", status=504, body="html", accept=True)
    upstream.fault(kind="sendMail", status=200)
    upstream.fault(kind="sendMail", retry_after="3")
    upstream.fault(kind="sendMail", status=503, slow_s=0.01)
    answers = [send(upstream, session, token) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [429, 504, 200, 202, 503, 202]
    assert answers[0].json()["error"]["code"] == "ApplicationThrottled"
    assert [answer.headers.get("Retry-After") for answer in answers[:4]] == ["7", None, None, "3"]
    assert answers[4].json()["error"]["innerError"]["request-id"] == answers[4].headers["request-id"]
    assert len(upstream.messages()) == 3
    assert len(upstream.messages(after=2)) == 1


def test_a_fault_for_one_login(upstream: Upstream, app: msal.ConfidentialClientApplication) -> None:
    upstream.fault(kind="token", user=USER, status=400, code="50196")
    assert app.acquire_token_by_username_password("a@example.com", "x", SCOPES)["error_codes"] == [50034]
    assert app.acquire_token_by_username_password(USER, "secret", SCOPES)["error_codes"] == [50196]


@pytest.mark.parametrize("fault", [{"reset": "before_body"}, {"reset": "after_body"}])
def test_reset_without_the_message(
    upstream: Upstream, session: requests.Session, token: str, fault: dict[str, str]
) -> None:
    upstream.fault(kind="sendMail", **fault)
    with pytest.raises(requests.ConnectionError):
        send(upstream, session, token)
    assert send(upstream, session, token).status_code == 202
    assert len(upstream.messages()) == 1
    assert upstream.stats()["requests"]["sendMail"] == {"0": 1, "202": 1}


@pytest.mark.parametrize("fault", [{"reset": "after_body"}, {"hang": True}, {"delay_s": 5.0}])
def test_accepted_and_yet_no_answer(
    upstream: Upstream, session: requests.Session, token: str, fault: dict[str, Any]
) -> None:
    upstream.fault(kind="sendMail", accept=True, **fault)
    with pytest.raises((requests.ConnectionError, requests.Timeout)):
        send(upstream, session, token, timeout=0.5)
    assert len(upstream.messages()) == 1


def test_a_reset_is_a_reset(upstream: Upstream) -> None:
    upstream.fault(kind="sendMail", reset="before_body")
    port = int(upstream.url.rpartition(":")[2])
    tls = ssl.create_default_context(cafile=upstream.ca_file)
    raw = socket.create_connection(("127.0.0.1", port), timeout=20)
    with tls.wrap_socket(raw, server_hostname="127.0.0.1") as connection:
        connection.sendall(b"POST /v1.0/me/sendMail HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        with socket.socket(fileno=connection.detach()) as below_tls:
            below_tls.settimeout(20)
            with pytest.raises(ConnectionResetError):
                drain(below_tls)


def test_early_endings_leave_no_traceback(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Upstream(tmp_path) as upstream:
        port = int(upstream.url.rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port), timeout=20).close()
        strict = ssl.create_default_context()  # does not know our authority: it ends the handshake
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as raw,
            pytest.raises(ssl.SSLError),
        ):
            strict.wrap_socket(raw, server_hostname="127.0.0.1")
        tls = ssl.create_default_context(cafile=upstream.ca_file)
        for octets in (
            b"POST /v1.0/me/sendMail HTTP/1.1\r\nContent-Length: 99\r\n\r\n{",
            b"POST /v1.0/me/send",
            b"POST /v1.0/me/sendMail HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"nonsense\r\n\r\n",
        ):
            raw = socket.create_connection(("127.0.0.1", port), timeout=20)
            with tls.wrap_socket(raw, server_hostname="127.0.0.1") as connection:
                connection.sendall(octets)
        assert upstream.stats()["messages"] == 0
    assert capfd.readouterr().err == ""


def test_revoked_tokens(upstream: Upstream, session: requests.Session, token: str) -> None:
    upstream.revoke()
    assert send(upstream, session, token).status_code == 401


def test_saved_messages(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    with Upstream(tmp_path, save_dir=str(kept)) as upstream, requests.Session() as session:
        session.trust_env = False
        session.verify = str(upstream.ca_file)
        form = {
            "grant_type": "client_credentials",
            "client_id": CLIENT_ID,
            "client_secret": "sandbox-secret",
            "scope": f"{upstream.url}/.default",
        }
        answer = session.post(f"{upstream.url}/sandbox/oauth2/v2.0/token", data=form, timeout=20)
        assert send(upstream, session, answer.json()["access_token"]).status_code == 202
    (file,) = kept.iterdir()
    assert json.loads(file.read_text("utf-8"))["subject"] == "Scan"
