# SPDX-License-Identifier: MIT
"""The SMTP section read sentence by sentence, to a process over TCP, with the sandbox behind it.

The dialogues of tests/protocol say the same in more detail and to a session alone; here nothing is left out between
the socket and Graph. One connection a sentence; each step is what the client says and the replies that are due.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.raw import RawClient
from tests.support.relay_process import RelayProcess, config_for
from tests.support.sandbox_client import Upstream

Step = tuple[str | bytes, str]  # what is said, a line where it is text; the replies to it, with commas between


def word(text: str) -> str:
    return b64encode(text.encode()).decode()


USER, PASSWORD = word("me@example.com"), word("pass word")
PLAIN = f"AUTH PLAIN {word(chr(0) + 'me@example.com' + chr(0) + 'pass word')}"
REFUSED = f"AUTH PLAIN {word(chr(0) + 'me@example.com' + chr(0))}"  # a user name without a password
LIMIT = 2000
TEXT = b"Subject: hello\r\n\r\nHello.\r\n"
LARGE = b"Subject: large\r\n\r\n" + (b"x" * 98 + b"\r\n") * 30

EHLO: list[Step] = [("EHLO client.example.com", "250")]
LOGIN: list[Step] = [*EHLO, (PLAIN, "235 2.7.0")]
MAIL: Step = ("MAIL FROM:<me@example.com>", "250 2.1.0")
ENVELOPE: list[Step] = [MAIL, ("RCPT TO:<you@example.org>", "250 2.1.5")]
DATA: Step = ("DATA", "354")


def padded(start: str, octets: int) -> str:
    """A line of so many octets, CR LF included."""
    return start + "x" * (octets - len(start) - 2)


SENTENCES: dict[str, list[Step]] = {
    "AUTH PLAIN": LOGIN,
    "AUTH PLAIN without initial response": [*EHLO, ("auth plain", "334"), (PLAIN.split()[-1], "235 2.7.0")],
    "AUTH LOGIN": [*EHLO, ("AUTH LOGIN", "334"), (USER, "334"), (PASSWORD, "235 2.7.0")],
    "AUTH LOGIN with initial response": [*EHLO, (f"AUTH login {USER}", "334"), (PASSWORD, "235 2.7.0")],
    "base64 without padding": [*EHLO, ("AUTH LOGIN", "334"), (USER.rstrip("="), "334"), (PASSWORD, "235 2.7.0")],
    "* cancels": [*EHLO, ("AUTH LOGIN", "334"), (USER, "334"), ("*", "501 5.7.0"), (PLAIN, "235 2.7.0")],
    "no base64": [*EHLO, ("AUTH PLAIN", "334"), ("!", "501 5.5.4")],
    "an empty login falls back": [*EHLO, ("AUTH PLAIN AAA=", "235 2.7.0"), *ENVELOPE],
    "a user name without a password": [*EHLO, (REFUSED, "535 5.7.8"), (PLAIN, "235 2.7.0")],
    "the third failed AUTH": [*EHLO, *[(REFUSED, "535 5.7.8")] * 2, (REFUSED, "535 5.7.8, 421 4.7.0, end")],
    "unknown mechanism": [*EHLO, ("AUTH CRAM-MD5", "504 5.5.4")],
    "before AUTH": [
        *(("RSET", "250 2.0.0"), ("NOOP x", "250 2.0.0"), ("HELP", "214 2.0.0"), ("VRFY me", "252 2.0.0")),
        *EHLO,
        (MAIL[0], "530 5.7.0"),
        ("QUIT", "221 2.0.0, end"),
    ],
    "the 20th bad command": [
        *[("NONSENSE", "500 5.5.2"), ("EXPN me", "502 5.5.1"), ("DATA", "503 5.5.1"), ("RSET x", "501 5.5.4")] * 4,
        *[("NONSENSE", "500 5.5.2")] * 3,
        ("NONSENSE", "500 5.5.2, 421 4.7.0, end"),
    ],
    "lenient": [
        *(("HELO", "250"), ("EHLO", "250"), (b"NOOP\n", "250 2.0.0"), (PLAIN, "235 2.7.0")),
        ("MAIL FROM: <me@example.com> RET=HDRS AUTH=<> X-ODD", "250 2.1.0"),
        ("RCPT TO:you@example.org NOTIFY=NEVER ORCPT=rfc822;you@example.org", "250 2.1.5"),
    ],
    "MAIL FROM:<>": [*LOGIN, ("MAIL FROM:<>", "250 2.1.0")],
    "line lengths": [
        *(
            (padded("NOOP ", 512), "250 2.0.0"),
            (padded("NOOP ", 513), "500 5.5.2"),
            (b"x" * 99999 + b"\n", "500 5.5.2"),
        ),
        *((padded("EHLO ", 512), "250"), (padded("AUTH PLAIN !", 12288), "501 5.5.4")),
        *((padded("AUTH PLAIN !", 12289), "500 5.5.2"), (PLAIN, "235 2.7.0")),
        (padded("MAIL FROM:<me@example.com> X=", 2049), "500 5.5.2"),
        (padded("MAIL FROM:<me@example.com> X=", 2048), "250 2.1.0"),
        (padded("RCPT TO:<you@example.org> X=", 2049), "500 5.5.2"),
        (padded("RCPT TO:<you@example.org> X=", 2048), "250 2.1.5"),
    ],
    "wrong order": [
        *((MAIL[0], "503 5.5.1"), *LOGIN, (PLAIN, "503 5.5.1"), ("RCPT TO:<you@example.org>", "503 5.5.1")),
        *(MAIL, (MAIL[0], "503 5.5.1"), ("DATA", "503 5.5.1")),
    ],
    "SIZE and BODY": [
        *LOGIN,
        (f"{MAIL[0]} SIZE={LIMIT + 1}", "552 5.3.4"),
        *((f"{MAIL[0]} {odd}", "501 5.5.4") for odd in ("SIZE=", "SIZE=1k", "BODY=9BIT", "BODY=BINARYMIME")),
        (f"{MAIL[0]} SIZE={LIMIT} BODY=8BITMIME", "250 2.1.0"),
    ],
    "addresses": [
        *(*LOGIN, ("MAIL FROM:<me>", "501 5.1.7"), MAIL, ("RCPT TO:<you>", "553 5.1.3")),
        *(("RCPT TO:<>", "553 5.1.3"), ("RCPT TO:<you@example.org>", "250 2.1.5")),
    ],
    "over max_recipients": [
        *(*LOGIN, *ENVELOPE, ("RCPT TO:<b@example.org>", "250 2.1.5"), ("RCPT TO:<c@example.org>", "452 4.5.3")),
        *(DATA, (TEXT + b".\r\n", "250 2.0.0")),
    ],
    "over max_message_size": [
        *(*LOGIN, *ENVELOPE, DATA, (LARGE + b".\r\nNOOP\r\n", "552 5.3.4, 250 2.0.0")),
        *(*ENVELOPE, (b"BDAT %d LAST\r\n%bNOOP\r\n" % (len(LARGE), LARGE), "552 5.3.4, 250 2.0.0")),
        *(*ENVELOPE, DATA, (TEXT + b".\r\n", "250 2.0.0")),
    ],
    "CHUNKING": [
        *(*LOGIN, *ENVELOPE, (b"BDAT %d\r\n%b" % (len(TEXT), TEXT), "250 2.0.0"), ("DATA", "503 5.5.1")),
        *(("BDAT 0 LAST", "250 2.0.0"), (b"BDAT 6 LAST\r\nRSET\r\n", "503 5.5.1"), ("BDAT x", "501 5.5.4")),
    ],
    "SMTPUTF8": [
        *(*LOGIN, ("MAIL FROM:<mé@example.com>", "501 5.1.7"), ("MAIL FROM:<mé@example.com> SMTPUTF8", "250 2.1.0")),
        ("RCPT TO:<yöu@bücher.example>", "250 2.1.5"),
    ],
    "PIPELINING": [
        (
            f"EHLO c\r\n{PLAIN}\r\n{MAIL[0]}\r\nRCPT TO:<you>\r\nRCPT TO:<you@example.org>\r\nDATA",
            "250, 235 2.7.0, 250 2.1.0, 553 5.1.3, 250 2.1.5, 354",
        ),
        (TEXT + b".\r\nRSET\r\nQUIT\r\n", "250 2.0.0, 250 2.0.0, 221 2.0.0, end"),
    ],
    "no sequence of bytes smuggles": [
        *(*LOGIN, *ENVELOPE, DATA),
        (
            TEXT + b"\n.\nRSET\n\r.\rRSET\r\n.\nRSET\n.\r\nRSET\r\n.\rRSET\r\n.\0\r\n" + b".\r\nNOOP\r\n",
            "250 2.0.0, 250 2.0.0",
        ),
    ],
    "STARTTLS without a certificate": [*EHLO, ("STARTTLS", "502 5.5.1")],
}


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    directory: Path = tmp_path_factory.mktemp("contract")
    keys: dict[str, Any] = {
        "max_message_size": LIMIT,
        "max_recipients": 2,
        "fallback_smtp_user": "fallback@example.com",
        "fallback_smtp_pass": "x",
    }
    with (
        Upstream(directory) as upstream,
        RelayProcess(directory / "relay", config_for(upstream, **keys)) as running,
    ):
        yield running
        running.assert_sound()


@pytest.mark.parametrize("sentence", SENTENCES)
def test_sentence(relay: RelayProcess, sentence: str) -> None:
    with RawClient(relay.host, relay.port) as client:
        assert client.status() == "220"
        for said, wanted in SENTENCES[sentence]:
            client.send(said if isinstance(said, bytes) else f"{said}\r\n".encode())
            due = wanted.split(", ")
            heard = ["end" if reply == "end" and client.is_over() else client.status() for reply in due]
            assert heard == due, said
