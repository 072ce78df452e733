# SPDX-License-Identifier: MIT
"""Replies: their octets, and that the catalogue holds to the RFCs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.smtp import reply as replies
from relay.smtp.reply import Reject, Reply

CATALOGUE = {name: value for name, value in vars(replies).items() if isinstance(value, Reply)}
MADE = {
    "greeting": replies.greeting("mail.example.com"),
    "helo": replies.helo("mail.example.com"),
    "ehlo": replies.ehlo("mail.example.com", ("PIPELINING", "SIZE 1")),
    "queued": replies.queued("0123456789ABCDEF"),
}

texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)


def parse(octets: bytes) -> tuple[int, list[str]]:
    """Code and texts, as a client reads a reply (RFC 5321 §4.2)."""
    rows = octets.decode("ascii").split("\r\n")
    assert rows.pop() == ""
    assert all(row[3] == "-" for row in rows[:-1])
    assert rows[-1][3] == " "
    (code,) = {int(row[:3]) for row in rows}
    return code, [row[4:] for row in rows]


@given(st.sampled_from([211, 250, 421, 451, 500, 554]), st.lists(texts, min_size=1, max_size=5))
def test_reply_to_octets_to_reply(code: int, lines: list[str]) -> None:
    assert parse(Reply(code, "", tuple(lines)).octets) == (code, lines)
    enhanced = Reply(code, "7.60", tuple(lines))
    assert enhanced.enhanced == f"{code // 100}.7.60"
    assert parse(enhanced.octets) == (code, [f"{enhanced.enhanced} {line}" for line in lines])
    assert str(enhanced) == f"{code} {enhanced.enhanced}"


@pytest.mark.parametrize("line", ["a\rb", "a\nb", "a\r\n250 forged", "ä", "\0", "\x7f", "x" * 508, "\u2028", "\t"])
def test_what_is_no_reply_line_cannot_be_made(line: str) -> None:
    with pytest.raises(ValueError, match="not a reply line"):
        Reply(250, "", ("fine", line))


def test_the_longest_line() -> None:
    assert len(Reply(250, "", ("x" * 506,)).octets) == 512


def test_a_reply_is_frozen() -> None:
    with pytest.raises(AttributeError):
        replies.OK.code = 500  # type: ignore[misc]


def test_a_reject_names_codes_alone() -> None:
    assert str(Reject(replies.AUTH_REFUSED)) == "535 5.7.8"
    assert Reject(replies.OK).reply is replies.OK


@pytest.mark.parametrize("name", [*CATALOGUE, *MADE])
def test_catalogue(name: str) -> None:
    reply = (CATALOGUE | MADE)[name]
    without = reply.code // 100 == 3 or name in ("greeting", "helo", "ehlo")
    assert bool(reply.enhanced) != without, "RFC 2034 §4: an enhanced code, but not in greeting, HELO, EHLO and 3xx"
    if reply.enhanced:
        assert re.fullmatch(rf"{str(reply.code)[0]}\.[0-7]\.\d{{1,3}}", reply.enhanced), "RFC 3463 §2"
    assert reply.close == (reply.code in (221, 421) or name == "NETWORK_REFUSED")
    assert not re.search(r"(?i)token|secret|graph|entra", b"".join([reply.octets]).decode()) or name == "greeting"


# Contract §3 and §6, by name where the session picks it and where outcome.py does.
CONTRACT = {
    "OK": "250 2.0.0",
    "BYE": "221 2.0.0",
    "CANNOT_VERIFY": "252 2.0.0",
    "START_DATA": "354",
    "AUTH_OK": "235 2.7.0",
    "AUTH_UNKNOWN_MECHANISM": "504 5.5.4",
    "AUTH_REQUIRED": "530 5.7.0",
    "AUTH_REFUSED": "535 5.7.8",
    "AUTH_UNAVAILABLE": "454 4.7.0",
    "LINE_TOO_LONG": "500 5.5.2",
    "UNKNOWN_COMMAND": "500 5.5.2",
    "NOT_OFFERED": "502 5.5.1",
    "BAD_SEQUENCE": "503 5.5.1",
    "SYNTAX": "501 5.5.4",
    "BAD_SENDER": "501 5.1.7",
    "BAD_RECIPIENT": "553 5.1.3",
    "TOO_MANY_RECIPIENTS": "452 4.5.3",
    "TOO_LARGE": "552 5.3.4",
    "TOO_MANY_CONNECTIONS": "421 4.7.0",
    "TIMED_OUT": "421 4.4.2",
    "SHUTTING_DOWN": "421 4.3.2",
    "NETWORK_REFUSED": "554 5.7.1",
}


@pytest.mark.parametrize("name", CONTRACT)
def test_codes_of_the_contract(name: str) -> None:
    assert str(CATALOGUE[name]) == CONTRACT[name]


def test_login_prompts_to_the_letter() -> None:
    assert replies.ASK_USER.octets == b"334 VXNlcm5hbWU6\r\n"
    assert replies.ASK_PASSWORD.octets == b"334 UGFzc3dvcmQ6\r\n"
    assert replies.ASK_PLAIN.octets == b"334 \r\n"
    assert replies.queued("ABC").octets == b"250 2.0.0 Ok: queued as ABC\r\n"
