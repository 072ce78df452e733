# SPDX-License-Identifier: MIT
"""What HTTP allows and what it does not, as Entra ID, Graph or a box on the way may say it; against contract §6, §7."""

from __future__ import annotations

import itertools
import smtplib
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.connect_proxy import ConnectProxy
from tests.support.raw_https import Connection, RawHttps, Script, answer
from tests.support.relay_process import RelayProcess, config_for, run_once

RECIPIENT = "you@example.org"
MESSAGE = f"From: me@example.com\r\nTo: {RECIPIENT}\r\nSubject: A report\r\n\r\nText.\r\n"
LARGE = MESSAGE + ("x" * 76 + "\r\n") * 40_000  # in one request, but not in one segment
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def module_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawHttps]:
    with RawHttps(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture
def service(module_service: RawHttps) -> RawHttps:
    module_service.reset()
    return module_service


@pytest.fixture(scope="module")
def module_relay(tmp_path_factory: pytest.TempPathFactory, module_service: RawHttps) -> Iterator[RelayProcess]:
    """Unknown outcomes are not tried again, or each would take 5 s."""
    with RelayProcess(tmp_path_factory.mktemp("relay"), config(module_service, ambiguous_outcome="give_up")) as running:
        yield running


@pytest.fixture
def relay(module_relay: RelayProcess, service: RawHttps) -> Iterator[RelayProcess]:
    before = len(module_relay.log())
    yield module_relay
    module_relay.assert_sound(before)


@pytest.fixture(scope="module")
def module_proxied_relay(tmp_path_factory: pytest.TempPathFactory, module_service: RawHttps) -> Iterator[RelayProcess]:
    """The same behind a proxy, where other parts read the answers."""
    with ConnectProxy() as proxy:
        keys = {"ambiguous_outcome": "give_up", "https_proxy": f"http://127.0.0.1:{proxy.port}"}
        with RelayProcess(tmp_path_factory.mktemp("proxied"), config(module_service, **keys)) as running:
            yield running
            assert proxy.asked


@pytest.fixture
def proxied_relay(module_proxied_relay: RelayProcess, service: RawHttps) -> Iterator[RelayProcess]:
    before = len(module_proxied_relay.log())
    yield module_proxied_relay
    module_proxied_relay.assert_sound(before)


@pytest.fixture
def user() -> str:
    return f"user-{next(_numbers)}@example.com"


def config(service: RawHttps, **keys: Any) -> dict[str, Any]:
    return config_for(service, **keys)  # type: ignore[arg-type]  # it has url and ca_file


def log_in(client: smtplib.SMTP, user: str) -> str:
    code, text = client.docmd("AUTH", "PLAIN " + b64encode(f"\0{user}\0secret".encode()).decode())
    return f"{code} {text.decode().split()[0]}"


def auth(relay: RelayProcess, user: str) -> str:
    with relay.smtp() as client:
        return log_in(client, user)


def send(relay: RelayProcess, user: str, message: str = MESSAGE) -> tuple[str, dict[str, Any]]:
    """Code and enhanced code of the reply to the data, and the log line; the session is usable behind it."""
    with relay.smtp() as client:
        assert log_in(client, user) == "235 2.7.0"
        assert client.mail(user)[0] == 250
        assert client.rcpt(RECIPIENT)[0] == 250
        code, text = client.data(message)
        assert client.noop()[0] == 250
    lines = relay.events("delivered", "deferred", "rejected", user=user)
    return f"{code} {text.decode().split()[0]}", lines[-1]


def closing(octets: bytes) -> Script:
    return lambda connection: connection.write(octets)


def reset(connection: Connection) -> None:
    connection.reset()


ACCEPTED: dict[str, Script] = {
    "with Retry-After": answer(202, Retry_After="120"),
    "with a body": answer(202, b"<html>", Content_Type="text/html; charset=x"),
    "chunked": b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked with a body": b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "behind 100": b"HTTP/1.1 100 Continue\r\n\r\n" + answer(202),
    "behind 102 and 103": b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    + answer(202),
    "then closed": closing(answer(202, Connection="close")),
    "without a length": closing(b"HTTP/1.1 202 Accepted\r\n\r\n"),
    "HTTP/1.0": closing(b"HTTP/1.0 202 Accepted\r\n\r\n"),
    "without a reason": answer(202).replace(b" Some Reason", b""),
    "cut in the body": closing(b"HTTP/1.1 202 Accepted\r\nContent-Length: 50\r\n\r\n{"),
    "cut in a body that nobody can hold": closing(b"HTTP/1.1 202 Accepted\r\nContent-Length: %d\r\n\r\n{" % 10**20),
    "cut in a chunk": closing(b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{"),
    "fields of any case": b"HTTP/1.1 202 Accepted\r\ncontent-LENGTH: 0\r\nREQUEST-ID: x\r\n\r\n",
}


@pytest.mark.parametrize("script", ACCEPTED.values(), ids=ACCEPTED)
def test_202_however_it_comes(relay: RelayProcess, service: RawHttps, user: str, script: Script) -> None:
    """It is never sent again; and the next message goes too, on this connection or another."""
    service.script("sendMail", script)
    for count in (1, 2):
        reply, line = send(relay, user)
        assert (reply, line["attempts"], line.get("possible_duplicate")) == ("250 2.0.0", 1, None)
        assert len(service.asked("sendMail")) == count


@pytest.mark.parametrize("script", ACCEPTED.values(), ids=ACCEPTED)
def test_202_however_it_comes_through_a_proxy(
    proxied_relay: RelayProcess, service: RawHttps, user: str, script: Script
) -> None:
    test_202_however_it_comes(proxied_relay, service, user, script)


UNCLEAR: dict[str, Script] = {
    "closed": lambda connection: None,
    "reset": reset,
    "no HTTP": closing(b"220 smtp.example ESMTP\r\n"),
    "TLS in TLS": closing(b"\x15\x03\x03\x00\x02\x02\x28"),
    "cut in the status line": closing(b"HTTP/1.1 2"),
    "no status": closing(b"HTTP/1.1 \r\n\r\n"),
    "201": answer(201),
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "500 in HTML": answer(500, b"<html>", Content_Type="text/html"),
    "502": answer(502),
    "504": answer(504),
}


@pytest.mark.parametrize("script", UNCLEAR.values(), ids=UNCLEAR)
def test_no_clear_answer(relay: RelayProcess, service: RawHttps, user: str, script: Script) -> None:
    service.script("sendMail", script)
    reply, line = send(relay, user)
    assert (reply, line["event"], line["possible_duplicate"]) == ("451 4.4.1", "deferred", True)
    assert len(service.asked("sendMail")) == 1


def test_an_unclear_answer_is_tried_again_late_with_the_same_message(
    tmp_path: Path, service: RawHttps, user: str
) -> None:
    with RelayProcess(tmp_path / "relay", config(service)) as relay:
        service.script("sendMail", reset)
        reply, line = send(relay, user, MESSAGE.replace("Subject", "Message-ID: <m@example.com>\r\nSubject"))
        assert (reply, line["attempts"], line["possible_duplicate"]) == ("250 2.0.0", 2, True)
    first, second = service.asked("sendMail")
    assert first.body == second.body
    assert b"<m@example.com>" in first.body
    assert second.at - first.at >= 5


@pytest.mark.parametrize("location", ["/v1.0/elsewhere", "https://elsewhere.example/", "http://["])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(relay: RelayProcess, service: RawHttps, user: str, status: int, location: str) -> None:
    service.script("sendMail", *[answer(status, Location=location)] * 3)
    assert send(relay, user)[0] == "451 4.4.1"
    assert len(service.asked("sendMail")) == 3
    assert service.asked("other") == []


@pytest.mark.parametrize("status", [400, 403, 404, 413, 429, 503])
@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe{", b"[]", b'{"error": "x"}', b'{"error": {"code": 5}}'])
def test_the_status_decides_where_the_body_says_nothing(
    relay: RelayProcess, service: RawHttps, user: str, status: int, body: bytes
) -> None:
    told = {400: "554 5.6.0", 403: "550 5.7.1", 404: "550 5.1.8", 413: "552 5.3.4", 429: "451 4.4.5", 503: "451 4.4.1"}
    service.script("sendMail", *[answer(status, body, Content_Type="text/html")] * 3)
    reply, line = send(relay, user)
    assert (reply, line["status"]) == (told[status], status)
    assert len(service.asked("sendMail")) == (3 if status in (429, 503) else 1)


def test_an_answer_before_the_message_was_read(relay: RelayProcess, service: RawHttps, user: str) -> None:
    """Graph's front may refuse a size by the head of the request; what is said then counts."""

    told = threading.Event()

    def refuse(connection: Connection) -> None:
        connection.write(answer(413, Connection="close"))
        told.wait(20)  # closing now would reset the answer away

    service.unread.add("sendMail")
    service.script("sendMail", refuse)
    try:
        assert send(relay, user, LARGE)[0] == "552 5.3.4"
    finally:
        told.set()
    assert len(service.asked("sendMail")) == 1


def test_reset_in_the_middle_of_the_message_is_no_doubt(tmp_path: Path, service: RawHttps, user: str) -> None:
    """More octets than the buffers of both ends hold, or all of them may have gone out before the reset comes."""
    service.unread.add("sendMail")
    service.script("sendMail", reset, reset, reset)
    with RelayProcess(tmp_path, config(service, single_request_limit=40_000_000)) as relay:
        reply, line = send(relay, user, MESSAGE + ("x" * 76 + "\r\n") * 200_000)
    assert (reply, line["attempts"], line.get("possible_duplicate")) == ("451 4.4.1", 3, None)


def test_a_connection_that_was_closed_behind_its_answer(relay: RelayProcess, service: RawHttps, user: str) -> None:
    """Without a word of it: it is no use any more, and that is no failure of the next message."""
    closed = [closing(answer(202)) for _ in range(4)]
    service.script("sendMail", *closed)
    for _ in closed:
        reply, line = send(relay, user)
        assert (reply, line["attempts"], line.get("possible_duplicate")) == ("250 2.0.0", 1, None)
    assert len({asked.connection for asked in service.asked("sendMail")}) == len(closed)


def test_connections_are_kept(relay: RelayProcess, service: RawHttps, user: str) -> None:
    for _ in range(3):
        assert send(relay, user)[0] == "250 2.0.0"
    assert len({asked.connection for asked in service.asked("sendMail")}) == 1


@pytest.mark.parametrize(("retry_after", "least_s"), [("2", 2), ("1.5", 1.5), ("0", 0), ("-3", 0), ("soon", 0)])
def test_never_sooner_than_retry_after(
    relay: RelayProcess, service: RawHttps, user: str, retry_after: str, least_s: float
) -> None:
    send(relay, user)  # which brings the token
    service.reset()
    service.script("sendMail", answer(429, Retry_After=retry_after))
    reply, line = send(relay, user)
    assert (reply, line["attempts"]) == ("250 2.0.0", 2)
    assert service.gaps()[0] >= least_s


# Entra ID


@pytest.mark.parametrize(
    ("status", "text", "told"),
    [
        (400, "AADSTS50126: Error validating credentials due to invalid username or password.", "535 5.7.8"),
        (400, "AADSTS70002: Error validating credentials. AADSTS50126: Invalid username or password.", "535 5.7.8"),
        (400, "AADSTS50076: you must use multi-factor authentication.", "535 5.7.8"),
        (400, "AADSTS50053: The account is locked.", "454 4.7.0"),
        (400, "AADSTS65001: The user or administrator has not consented.", "454 4.7.0"),
        (401, "AADSTS7000222: The provided client secret keys are expired.", "454 4.7.0"),
        (429, "AADSTS50126: whatever a throttled answer says", "454 4.7.0"),
        (503, "AADSTS50126: whatever a failing service says", "454 4.7.0"),
    ],
)
def test_the_number_may_stand_in_the_text_alone(
    relay: RelayProcess, service: RawHttps, user: str, status: int, text: str, told: str
) -> None:
    content = {"error": "invalid_grant", "error_description": f"{text}\r\nTrace ID: 1\r\nTimestamp: 2026-01-01"}
    service.script("token", answer(status, content, Content_Type="application/json"))
    assert auth(relay, user) == told


PASSING: dict[str, Script] = {
    "400 HTML": answer(400, b"<html>a portal</html>"),
    "400 temporarily_unavailable": answer(400, {"error": "temporarily_unavailable", "error_codes": [90033]}),
    "400 consent": answer(400, {"error": "invalid_grant", "error_codes": [65001]}),
    "401 secret": answer(401, {"error": "invalid_client", "error_codes": [7000222]}),
    "200 HTML": answer(200, b"<html>a portal</html>"),
    "200 without a token": answer(200, {}),
    "302": answer(302, Location="https://portal.example/"),
    "429": answer(429, Retry_After="300"),
    "500": answer(500),
    "reset": reset,
    "cut": closing(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"access_token'),
}


FAULTS = [
    pytest.param(kind, script, id=f"{kind}-{name}")
    for kind in ("realm", "token")
    for name, script in PASSING.items()
    if kind == "token" or name not in ("200 without a token", "400 consent")  # no answers to the user realm
]


@pytest.mark.parametrize(("kind", "script"), FAULTS)
def test_what_has_passed_has_passed(
    relay: RelayProcess, service: RawHttps, user: str, kind: str, script: Script
) -> None:
    """454, and nothing of it is held against the next login, of this user or another."""
    service.script(kind, script)
    assert auth(relay, user) == "454 4.7.0"
    assert auth(relay, f"another-{user}") == "235 2.7.0"
    assert auth(relay, user) == "235 2.7.0"


DISCOVERY: dict[str, Script] = {str(status): answer(status) for status in (200, 302, 404, 429, 500)} | {"reset": reset}


@pytest.mark.parametrize("script", DISCOVERY.values(), ids=DISCOVERY)
def test_a_start_without_entra_heals(tmp_path: Path, service: RawHttps, user: str, script: Script) -> None:
    with RelayProcess(tmp_path / "relay", config(service)) as relay:
        service.script("discovery", script)
        assert auth(relay, user) == "454 4.7.0"
        assert auth(relay, user) == "235 2.7.0"
        relay.assert_sound()


@pytest.mark.parametrize("body", [b"<html>a portal</html>", b'{"access_token": "T0KEN'])
def test_check_online_shows_nothing_of_an_answer_that_is_none(tmp_path: Path, service: RawHttps, body: bytes) -> None:
    """msal would log all of it, with a traceback."""
    config_file = tmp_path / "config.yaml"
    config_file.write_text(yaml.safe_dump(config(service)))
    service.script("token", answer(200, body))
    ended = run_once("check", "--online", "--config", config_file)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "no usable answer" in ended.stdout
    assert "T0KEN" not in ended.stdout


def test_endpoints_are_where_the_discovery_says(tmp_path: Path, service: RawHttps, user: str) -> None:
    elsewhere = service.url.replace("127.0.0.1", "localhost")
    found = {"issuer": "x", "authorization_endpoint": f"{elsewhere}/a", "token_endpoint": f"{elsewhere}/deep/token"}
    with RelayProcess(tmp_path / "relay", config(service)) as relay:
        service.script("discovery", answer(200, found))
        assert auth(relay, user) == "235 2.7.0"
    (asked,) = service.asked("token")
    assert asked.target == "/deep/token"


@pytest.mark.parametrize(("expires_in", "tokens"), [(3600, 1), ("3599", 1), (89, 1), (30, 1), (0, 3), (None, 3)])
def test_how_long_a_token_is_used(
    relay: RelayProcess, service: RawHttps, user: str, expires_in: object, tokens: int
) -> None:
    service.expires_in = expires_in
    for _ in range(3):
        assert auth(relay, user) == "235 2.7.0"
    assert len(service.asked("token")) == tokens


BUSY_ENTRA: dict[str, Script] = {
    "503": answer(503),
    "429 with Retry-After": answer(429, Retry_After="2"),
    "reset": reset,
    "no JSON": answer(200, b"<html>"),
    "temporarily unavailable": answer(400, {"error": "temporarily_unavailable", "error_codes": [90033]}),
}


@pytest.mark.parametrize("script", BUSY_ENTRA.values(), ids=BUSY_ENTRA)
def test_a_token_that_comes_at_the_second_try(
    relay: RelayProcess, service: RawHttps, user: str, script: Script
) -> None:
    """A message has the time to wait for it; a login is answered at once."""
    service.expires_in = 0  # so that the message needs one of its own
    with relay.smtp() as client:
        service.script("token", script)
        assert log_in(client, user) == "454 4.7.0"
        assert log_in(client, user) == "235 2.7.0"
        service.script("token", script)
        client.mail(user)
        client.rcpt(RECIPIENT)
        assert client.data(MESSAGE)[0] == 250
    assert len(service.asked("token")) == 4
    assert len(service.asked("sendMail")) == 1
    (line,) = relay.events("delivered", user=user)
    assert line["attempts"] == 1
    (retry,) = relay.events("token_retry", message_id=line["message_id"])
    assert retry["delay_s"] >= (2 if "Retry-After" in str(script) else 0)
