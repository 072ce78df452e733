# SPDX-License-Identifier: MIT
"""Large mail over real sockets: attachments octet for octet, no draft left behind, one clear answer."""

from __future__ import annotations

import base64
import os
import random
import signal
from collections.abc import Iterator
from contextlib import closing
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Login
from tests.support.relay_process import RelayProcess, config_for, wait_until
from tests.support.sandbox_client import Upstream

MB = 1_000_000
RECIPIENT = "you@example.org"
OCTETS = random.Random(4).randbytes(40 * MB)
KEYS: dict[str, Any] = {"max_message_size": 157_286_400, "retry_attempts": 3}


@pytest.fixture(scope="module")
def relay_keys() -> dict[str, Any]:
    return KEYS


@pytest.fixture(scope="module")
def upstream_settings() -> dict[str, Any]:
    return {"permissions": ["Mail.Send", "Mail.ReadWrite"]}


def mail(login: Login, *sizes: int, text: str = "See attached.\n") -> bytes:
    message = EmailMessage()
    message["From"] = login.user
    message["To"] = RECIPIENT
    message["Subject"] = "A large one"
    message["Message-ID"] = f"<{login.user}>"
    message.set_content(text)
    for number, size in enumerate(sizes):
        message.add_attachment(
            OCTETS[number : number + size], maintype="application", subtype="pdf", filename=f"scan {number}.pdf"
        )
    return message.as_bytes().replace(b"\n", b"\r\n")


def send(relay: RelayProcess, login: Login, content: bytes) -> str:
    """Code and enhanced code of the reply to the data."""
    with relay.smtp(login.user, login.password) as client:
        assert client.mail(login.user)[0] == 250
        assert client.rcpt(RECIPIENT)[0] == 250
        code, text = client.data(content)
    return f"{code} {text.decode('ascii').split()[0]}"


def check_arrived(upstream: Upstream, *sizes: int, form: str = "draft") -> None:
    """One message came, with these attachments, and nothing else lies about."""
    (message,) = upstream.messages()
    assert message["form"] == form
    found = message["message"].get("attachments", [])
    assert [item["name"] for item in found] == [f"scan {number}.pdf" for number in range(len(sizes))]
    for number, (item, size) in enumerate(zip(found, sizes, strict=True)):
        assert base64.b64decode(item["contentBytes"]) == OCTETS[number : number + size]
    assert message["to"] == [RECIPIENT]
    assert upstream.drafts() == []


@pytest.mark.parametrize(
    "sizes",
    [
        (5 * MB,),
        (25 * MB,),
        (40 * MB,),
        (3 * MB,),
        (3 * MB - 1, 3 * MB, 3 * MB + 1),
        (3 * 1024 * 1024,),
        (4 * MB, 8 * MB),
        (4 * MB - 1, 4 * MB + 1),
        (1_500_000, 1_500_000, 10),
        (0, 10, 2_097_151, 2_097_152, 6 * MB),
    ],
    ids=str,
)
def test_octet_for_octet(relay: RelayProcess, upstream: Upstream, login: Login, sizes: tuple[int, ...]) -> None:
    assert send(relay, login, mail(login, *sizes)) == "250 2.0.0"
    check_arrived(upstream, *sizes)
    line = relay.wait_for("delivered", user=login.user)
    assert (line["form"], line["attempts"]) == ("draft", 1)
    assert line["graph_request_id"]
    assert line["form_reason"] == "too large for one request; a copy stays in Sent Items"


def test_up_to_the_limit_it_is_one_request(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    assert send(relay, login, mail(login, 2_900_000)) == "250 2.0.0"
    check_arrived(upstream, 2_900_000, form="json")
    assert set(upstream.stats()["requests"]) >= {"sendMail"}
    assert "draft" not in upstream.stats()["requests"]


DELETE_AFTER_SUBMIT = {"id": "Boolean 0x0E01", "value": "true"}


@pytest.mark.parametrize(
    ("keys", "asked", "reason"),
    [
        ({"delete_sent_drafts": True}, True, "; Exchange is asked to keep no copy"),
        ({"delete_sent_drafts": True, "save_to_sent": True}, False, ""),
        ({}, False, "; a copy stays in Sent Items"),
    ],
    ids=str,
)
def test_exchange_is_asked_to_keep_no_copy(
    upstream: Upstream, login: Login, tmp_path: Path, keys: dict[str, Any], asked: bool, reason: str
) -> None:
    with RelayProcess(tmp_path, config_for(upstream, **KEYS, **keys)) as relay:
        assert send(relay, login, mail(login, 5 * MB)) == "250 2.0.0"
        assert relay.wait_for("delivered")["form_reason"] == f"too large for one request{reason}"
    check_arrived(upstream, 5 * MB)
    [message] = upstream.messages()
    assert (DELETE_AFTER_SUBMIT in message["message"]["singleValueExtendedProperties"]) == asked


FAULTS: dict[str, dict[str, Any]] = {
    "busy": {"status": 503},
    "done and not told": {"status": 500, "accept": True},
    "cut": {"reset": "after_body"},
    "done and cut": {"reset": "after_body", "accept": True},
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["draft", "attachment", "uploadSession", "upload", "send"])
def test_a_fault_at_each_step(relay: RelayProcess, upstream: Upstream, login: Login, kind: str, fault: str) -> None:
    sizes = (10_000, 5 * MB)
    upstream.fault(kind=kind, user=login.user, **FAULTS[fault])
    assert send(relay, login, mail(login, *sizes)) == "250 2.0.0"
    check_arrived(upstream, *sizes)
    line = relay.wait_for("delivered", user=login.user)
    assert line["attempts"] == 2
    assert "possible_duplicate" not in line


@pytest.mark.parametrize(("resets", "state_faults", "reply"), [(1, 0, 250), (1, 1, 250), (2, 0, 250), (3, 0, 451)])
def test_an_upload_is_resumed_where_it_broke_off(
    relay: RelayProcess, upstream: Upstream, login: Login, resets: int, state_faults: int, reply: int
) -> None:
    upstream.fault(kind="upload", user=login.user, reset="before_body", count=resets)
    upstream.fault(kind="uploadState", user=login.user, status=503, count=state_faults)
    assert send(relay, login, mail(login, 9 * MB)).startswith(str(reply))
    assert upstream.drafts() == []
    if reply == 250:
        check_arrived(upstream, 9 * MB)


@pytest.mark.parametrize(
    ("kind", "fault", "reply"),
    [
        ("draft", {"status": 503}, "451 4.4.1"),
        ("attachment", {"status": 404, "code": "ErrorItemNotFound"}, "451 4.4.1"),
        ("uploadSession", {"status": 429}, "451 4.4.5"),
        ("upload", {"reset": "after_body"}, "451 4.4.1"),
        ("upload", {"status": 507, "code": "ErrorQuotaExceeded"}, "452 4.2.2"),
        ("send", {"status": 503}, "451 4.4.1"),
        ("send", {"status": 403, "code": "ErrorSendAsDenied"}, "550 5.7.60"),
        ("send", {"status": 400, "code": "ErrorMessageSizeExceeded"}, "552 5.3.4"),
        ("attachment", {"status": 413}, "552 5.3.4"),
        ("draft", {"status": 404, "code": "MailboxNotEnabledForRESTAPI"}, "550 5.1.8"),
    ],
)
def test_what_fails_for_good(
    relay: RelayProcess, upstream: Upstream, login: Login, kind: str, fault: dict[str, Any], reply: str
) -> None:
    upstream.fault(kind=kind, user=login.user, count=-1, **fault)
    assert send(relay, login, mail(login, 10_000, 5 * MB)) == reply
    assert upstream.drafts() == []
    assert upstream.messages() == []
    line = relay.wait_for("deferred" if reply[0] == "4" else "rejected", user=login.user)
    assert (line["reply"], line["form"]) == (reply, "draft")
    assert line["reason"]


def test_a_draft_that_cannot_be_deleted_is_named(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    upstream.fault(kind="send", user=login.user, status=403)
    upstream.fault(kind="deleteDraft", user=login.user, status=503, count=-1)
    assert send(relay, login, mail(login, 5 * MB)) == "550 5.7.1"
    assert relay.wait_for("draft_left_behind", mailbox=login.user)["level"] == "warning"
    assert [draft["mailbox"] for draft in upstream.drafts()] == [login.user]


def test_a_refused_size_is_learned(upstream: Upstream, login: Login, tmp_path: Path) -> None:
    with RelayProcess(tmp_path, config_for(upstream, **KEYS)) as relay:
        upstream.fault(kind="sendMail", status=413)
        assert send(relay, login, mail(login, 1_500_000)) == "250 2.0.0"
        check_arrived(upstream, 1_500_000)
        line = relay.wait_for("limit_lowered")
        assert line["level"] == "info"
        assert line["limit_bytes"] == line["size_bytes"] - 1
        assert 2_000_000 < line["limit_bytes"] < 2_001_000

        upstream.reset()
        assert send(relay, login, mail(login, 1_500_001)) == "250 2.0.0"
        assert "sendMail" not in upstream.stats()["requests"], "the next one takes the large path at once"
        upstream.reset()
        assert send(relay, login, mail(login, 1_400_000)) == "250 2.0.0"
        assert "draft" not in upstream.stats()["requests"]
        relay.assert_sound()


def test_a_refused_size_without_attachments_is_no_lesson(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    upstream.fault(kind="sendMail", status=413)
    assert send(relay, login, mail(login)) == "552 5.3.4"
    assert "draft" not in upstream.stats()["requests"]
    assert relay.events("limit_lowered") == []


def test_what_cannot_be_cut(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    assert send(relay, login, mail(login, 10, text="word " * 900_000 + "\n")) == "552 5.3.4"
    signed = mail(login, 5 * MB).replace(b"multipart/mixed", b"multipart/signed", 1)
    assert send(relay, login, signed) == "552 5.3.4"
    assert upstream.stats()["requests"].keys() & {"draft", "sendMail"} == set()
    assert "signed" in relay.events("rejected", user=login.user)[1]["reason"]


def test_sent_although_nobody_said_so(tmp_path: Path, upstream: Upstream, login: Login) -> None:
    """The time is up when the answer to /send is missed: one last look shows that it went."""
    with RelayProcess(tmp_path, config_for(upstream, **KEYS, submit_timeout=8)) as relay:
        upstream.fault(kind="send", hang=True, accept=True)
        assert send(relay, login, mail(login, 5 * MB)) == "250 2.0.0"
        check_arrived(upstream, 5 * MB)


def test_a_stop_in_the_middle_leaves_no_draft(tmp_path: Path, upstream: Upstream, login: Login) -> None:
    with RelayProcess(tmp_path, config_for(upstream, **KEYS, shutdown_timeout=1)) as relay:
        upstream.fault(kind="upload", user=login.user, hang=True)
        with closing(relay.smtp(login.user, login.password)) as client:
            client.mail(login.user)
            client.rcpt(RECIPIENT)
            client.putcmd("data")
            assert client.getreply()[0] == 354
            client.send(mail(login, 5 * MB) + b"\r\n.\r\n")
            wait_until(upstream.drafts, "the draft")
            relay.signal(signal.SIGTERM)
            assert relay.wait() == 0
        assert upstream.drafts() == []
        assert relay.events("shutdown_timeout")
        assert relay.events("draft_left_behind") == []


@pytest.fixture
def poor_upstream(tmp_path: Path) -> Iterator[Upstream]:
    """One that grants Mail.Send only."""
    with Upstream(tmp_path, permissions=["Mail.Send"]) as running:
        yield running


def test_without_mail_readwrite(tmp_path: Path, poor_upstream: Upstream, login: Login) -> None:
    with RelayProcess(tmp_path / "relay", config_for(poor_upstream, **KEYS)) as relay:
        assert send(relay, login, mail(login, 5 * MB)) == "552 5.3.4"
        (line,) = relay.events("large_mail_denied")
        assert (line["level"], line["mailbox"]) == ("error", login.user)
        assert "Mail.ReadWrite" in line["reason"]
        assert "Mail.ReadWrite" in relay.wait_for("rejected")["reason"]

        assert send(relay, login, mail(login, 5 * MB)) == "552 5.3.4"
        assert len(relay.events("large_mail_denied")) == 1
        assert poor_upstream.stats()["requests"]["draft"] == {"403": 1}
        assert send(relay, login, mail(login, 10_000)) == "250 2.0.0", "what fits into one request still goes"
        relay.assert_sound()


def side_processes(relay: RelayProcess) -> set[int]:
    """The processes for large mail below this relay's."""
    found = Path(f"/proc/{relay.process.pid}/task/{relay.process.pid}/children").read_text(encoding="ascii").split()
    return {pid for pid in map(int, found) if "large mail" in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")}


def test_a_killed_process_for_large_mail_costs_nothing(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    assert send(relay, login, mail(login, 2 * MB)) == "250 2.0.0"
    [lost] = side_processes(relay)
    os.kill(lost, signal.SIGKILL)
    assert send(relay, login, mail(login, 2 * MB)) == "250 2.0.0"
    assert len(upstream.messages()) == 2
    assert len(relay.events("side_process_lost")) == 1
    assert send(relay, login, mail(login, 2 * MB)) == "250 2.0.0"
    assert side_processes(relay).isdisjoint({lost})
