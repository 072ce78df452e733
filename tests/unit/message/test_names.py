# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.message.names import clean_name, made_up_name, message_name


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("x.pdf", "x.pdf"),
        ("C:\\dir\\x.pdf", "x.pdf"),
        ("c:/dir/x.pdf", "x.pdf"),
        ("/tmp/scans/x.pdf", "x.pdf"),
        ("../../etc/passwd", "passwd"),
        ("./x.pdf", "x.pdf"),
        ("Invoice 12/2026.pdf", "Invoice 12/2026.pdf"),
        ("a/b\\c.txt", "c.txt"),
        ("a\r\nb\t\x7f\x85.txt", "ab.txt"),
        (" x .txt ", "x .txt"),
        ("..", ""),
        ("/dir/", ""),
        ("", ""),
        (".profile", ".profile"),
    ],
)
def test_clean(name: str, cleaned: str) -> None:
    assert clean_name(name) == cleaned


@pytest.mark.parametrize(
    ("media_type", "content_id", "name"),
    [
        ("application/pdf", "", "attachment-2.pdf"),
        ("application/pdf", "part1.06@x", "part1.06"),
        ("image/png", "image001.png@01DA.5E", "image001.png"),
        ("image/png", "ii_abc@x", "attachment-2.png"),
        ("image/png", "../../x.png@y", "x.png"),
        ("image/x-odd", "", "attachment-2.bin"),
        ("text/calendar", "", "attachment-2.ics"),
        ("text/x-odd", "", "attachment-2.txt"),
        ("message/delivery-status", "", "attachment-2.txt"),
        ("application/pkcs7-signature", "", "smime.p7s"),
        ("application/pgp-signature", "", "signature.asc"),
    ],
)
def test_made_up(media_type: str, content_id: str, name: str) -> None:
    assert made_up_name(media_type, content_id, 2) == name


@pytest.mark.parametrize(
    ("subject", "name"),
    [("Hello", "Hello.eml"), ("Re: a/b?", "Re_ a_b_.eml"), ("", "message.eml"), (" . ", "message.eml")],
)
def test_message_name(subject: str, name: str) -> None:
    assert message_name(subject) == name


@given(st.text(), st.text())
def test_never_a_path_and_never_empty(name: str, content_id: str) -> None:
    cleaned = clean_name(name)
    assert not set(cleaned) & set("\\\r\n\0")
    assert not cleaned.startswith(("/", "../", "./"))
    made_up = made_up_name("image/png", content_id, 1)
    assert made_up
    assert not set(made_up) & set("/\\\r\n\0")
    assert message_name(name).endswith(".eml")
