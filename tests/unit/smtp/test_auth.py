# SPDX-License-Identifier: MIT
"""The AUTH exchanges: credentials out, or Reject; nothing else, and no secret in it."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.identity import Credentials
from relay.smtp import reply as replies
from relay.smtp.auth import exchange
from relay.smtp.reply import Reject, Reply


class Client:
    """Answers challenges one after the other and remembers them."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self.challenges: list[Reply] = []

    def ask(self, challenge: Reply) -> bytes:
        self.challenges.append(challenge)
        return self._answers.pop(0)


def b64(text: str | bytes) -> str:
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def seen(credentials: Credentials) -> tuple[str, str]:
    return credentials.user, credentials.password.reveal()


printable = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


@given(printable, printable, st.booleans(), st.booleans())
def test_plain_and_login_carry_any_text(user: str, password: str, padded: bool, initial: bool) -> None:
    def word(text: str) -> str:
        found = b64(text)
        return (found if padded else found.rstrip("=")) or "="

    plain, client = word(f"\0{user}\0{password}"), Client()
    if initial:
        assert seen(exchange(f"PLAIN {plain}", client.ask)) == (user, password)
    else:
        client = Client(plain.encode())
        assert seen(exchange("PLAIN", client.ask)) == (user, password)
        assert client.challenges == [replies.ASK_PLAIN]

    if initial:
        client = Client(word(password).encode())
        assert seen(exchange(f"login {word(user)}", client.ask)) == (user, password)
        assert client.challenges == [replies.ASK_PASSWORD]
    else:
        client = Client(word(user).encode(), word(password).encode())
        assert seen(exchange("LOGIN", client.ask)) == (user, password)
        assert client.challenges == [replies.ASK_USER, replies.ASK_PASSWORD]


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_answer_gives_credentials_or_501(first: bytes, second: bytes) -> None:
    for mechanism in ("PLAIN", "LOGIN"):
        with contextlib.suppress(Reject):
            found = exchange(mechanism, Client(first, second).ask)
            assert repr(found.password) == "Secret(***)"


def test_empty_login_over_the_wire() -> None:
    assert seen(exchange("LOGIN =", Client(b"").ask)) == ("", "")
    assert seen(exchange("LOGIN", Client(b"", b"").ask)) == ("", "")
    assert seen(exchange(f"PLAIN {b64(bytes(2))}", Client().ask)) == ("", "")


def test_latin_1_of_old_devices() -> None:
    assert seen(exchange(f"PLAIN {b64(bytes([0]) + b'u' + bytes([0, 0xFC]))}", Client().ask)) == ("u", "ü")


@pytest.mark.parametrize("answer", [b"*", b" * ", b"\t*"])
def test_cancel(answer: bytes) -> None:
    for client, argument in ((Client(answer), "PLAIN"), (Client(answer), "LOGIN"), (Client(answer), "LOGIN dQ==")):
        with pytest.raises(Reject, match=r"^501 5\.7\.0$"):
            exchange(argument, client.ask)


@pytest.mark.parametrize("answer", [b"A", b"a b", b"YQ==YQ==", b"Y=Q=", b"\xff", b"YWJj-_", b"**", b"YQ\0"])
def test_what_is_not_base64(answer: bytes) -> None:
    for mechanism in ("PLAIN", "LOGIN"):
        with pytest.raises(Reject, match=r"^501 5\.5\.4$"):
            exchange(mechanism, Client(answer).ask)


@pytest.mark.parametrize("octets", [b"", b"u", b"u\0p", b"\0u\0p\0", b"a\0u\0p\0x"])
def test_what_is_no_plain_message(octets: bytes) -> None:
    with pytest.raises(Reject, match=r"^501 5\.5\.4$"):
        exchange(f"PLAIN {b64(octets) or '='}", Client().ask)


@pytest.mark.parametrize(
    ("argument", "status"),
    [("", "501 5.5.4"), ("CRAM-MD5", "504 5.5.4"), ("XOAUTH2 x", "504 5.5.4"), ("PLAINX", "504 5.5.4")],
)
def test_mechanisms(argument: str, status: str) -> None:
    with pytest.raises(Reject, match=f"^{status}$"):
        exchange(argument, Client().ask)
