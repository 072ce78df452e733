# SPDX-License-Identifier: MIT
"""Header fields, encoded words, parameters: the standard's forms and the ones that are sent."""

from __future__ import annotations

import email.header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.message.headers import decode_words, field_text, parse_parameters, split_fields


def fields_of(octets: bytes, *, is_message: bool = True) -> tuple[list[tuple[str, str]], bytes]:
    found = split_fields(octets, is_message=is_message)
    return [(name, field_text(raw)) for name, raw in found.fields], octets[found.body_start :]


@pytest.mark.parametrize("eol", [b"\r\n", b"\n", b"\r", b"\r\r\n"])
def test_line_ends(eol: bytes) -> None:
    octets = eol.join([b"Subject: a", b"\tb", b"  c", b"To : x@y", b"", b"body", b""])
    assert fields_of(octets) == ([("Subject", "a b  c"), ("To", "x@y")], b"body" + eol)


@pytest.mark.parametrize(
    ("octets", "fields", "body"),
    [
        (b"", [], b""),
        (b"\r\n", [], b""),
        (b"Subject: x", [("Subject", "x")], b""),
        (b"Subject:\r\n\r\n", [("Subject", "")], b""),
        (b"From x@y Mon Jan  1 00:00:00 2024\r\nTo: b\r\n\r\nx", [("To", "b")], b"x"),
        (b">From x@y Mon Jan\r\nTo: b\r\n\r\nx", [("To", "b")], b"x"),
        (b"\r\n\r\nSubject: x\r\n\r\nbody", [("Subject", "x")], b"body"),
        (b"\xef\xbb\xbfSubject: x\r\nTo: b\r\n\r\nbody", [("Subject", "x"), ("To", "b")], b"body"),
        (b"\xef\xbb\xbf\r\nTo: b\r\n\r\nbody", [("To", "b")], b"body"),
        (b"\xef\xbb\xbfjust text", [], b"\xef\xbb\xbfjust text"),
        (b" \tFrom: a\r\nTo: b\r\n\r\nbody", [("From", "a"), ("To", "b")], b"body"),
        (b"  From: a\r\n  To: b\r\n\r\nbody", [], b"  From: a\r\n  To: b\r\n\r\nbody"),
        (b"\r\nplain\r\n", [], b"plain\r\n"),
        (b"\r\nPS: plain\r\n", [], b"PS: plain\r\n"),
        (b"just text\r\nTo: a@b\r\n", [], b"just text\r\nTo: a@b\r\n"),
        (b"Note: no header\r\nat all\r\n", [], b"Note: no header\r\nat all\r\n"),
        (b"Foo: bar\r\n\r\nbody", [("Foo", "bar")], b"body"),
        (b" folded\r\nTo: b\r\n\r\n", [], b" folded\r\nTo: b\r\n\r\n"),
        (b"Subject: a long\r\nsubject\r\nTo: b\r\n\r\nx", [("Subject", "a long subject"), ("To", "b")], b"x"),
        (b"Subject: a\r\n-----\r\nTo: b\r\n\r\nx", [("Subject", "a -----"), ("To", "b")], b"x"),
        (b"To: b\r\n--=_b\r\nContent-ID: c\r\n\r\nx", [("To", "b")], b"--=_b\r\nContent-ID: c\r\n\r\nx"),
        (b"To: b\r\nHello\r\nPS: you\r\n", [("To", "b")], b"Hello\r\nPS: you\r\n"),
        (b"Subject: a\0b\r\n\r\n", [("Subject", "ab")], b""),
        (b"Subject: caf\xc3\xa9\r\nX-A: caf\xe9\r\n\r\n", [("Subject", "café"), ("X-A", "café")], b""),
        (b"Subject: " + b"x" * 5000 + b"\r\n\r\n", [("Subject", "x" * 5000)], b""),
        (b"To: a\r\nTo: b\r\n\r\n", [("To", "a"), ("To", "b")], b""),
    ],
)
def test_tolerance(octets: bytes, fields: list[tuple[str, str]], body: bytes) -> None:
    assert fields_of(octets) == (fields, body)


def test_in_a_part_a_blank_line_ends_an_empty_header() -> None:
    assert fields_of(b"\r\nSubject: x\r\n\r\nbody", is_message=False) == ([], b"Subject: x\r\n\r\nbody")


def test_a_mended_header_is_reported() -> None:
    assert split_fields(b"Subject: x\r\nrest\r\nTo: b\r\n\r\n").mended
    assert not split_fields(b"Subject: x\r\nTo: b\r\n\r\nx").mended


@given(st.binary())
def test_any_octets_split_and_nothing_before_the_body_is_lost(octets: bytes) -> None:
    found = split_fields(octets)
    assert 0 <= found.body_start <= len(octets)
    if not found.fields and b"From " not in octets:
        assert octets[found.body_start :] == octets or octets[: found.body_start].strip(b"\r\n") == b""


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("plain", "plain"),
        ("=?utf-8?Q?caf=C3=A9?=", "café"),
        ("=?utf-8?q?caf=c3=a9?=", "café"),
        ("=?UTF-8?b?Y2Fmw6k=?=", "café"),
        ("=?UTF-8?B?Y2Fmw6k?=", "café"),  # no padding
        ("=?utf-8?Q?a_b?= =?utf-8?Q?c?=", "a bc"),
        ("=?utf-8?Q?a?=\t =?iso-8859-1?Q?=E9?= d", "aé d"),
        ("=?utf-8?B?w6?= =?utf-8?B?k=?=", "Ã =?utf-8?B?k=?="),
        ("=?utf-8?Q?=C3?= =?utf-8?Q?=A9?=", "é"),  # a character cut in two
        ("=?utf-8?Q?=C3?= =?UTF8?B?qQ==?=", "é"),
        ("=?gb2312?B?xOM=?= =?gb2312?B?usM=?=", "你好"),
        ("=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"),
        ("=?utf-8?Q?a b c?=", "a b c"),
        ("=?utf-8?B?Y2 Fm?=", "caf"),
        ("=?utf-8*en-GB?Q?x?=", "x"),
        ("=?x-unknown?Q?=C3=A9=E9?=", "éé"),
        ("=?us-ascii?Q?=E9?=", "é"),
        ("a=?utf-8?Q?b?=c", "abc"),
        ("(=?utf-8?Q?b?=)", "(b)"),
        ("=?utf-8?Q?what?_now??=", "what? now?"),
        ("=?utf-8?Q?=ZZ=4?=", "=ZZ=4"),
        ("=?utf-8?Q??=", ""),
        ("=?utf-8?X?abc?=", "=?utf-8?X?abc?="),
        ("=?utf-8?B?a*b?=", "=?utf-8?B?a*b?="),
        ("=?utf-8?B?abcde?=", "=?utf-8?B?abcde?="),
        ("=?utf-8?Q?open", "=?utf-8?Q?open"),
        ("=?utf-8?Q?open =?utf-8?Q?shut?=", "=?utf-8?Q?open shut"),
        ("=??=", "=??="),
        ("=?", "=?"),
        ("=?utf-8?Q?a=0D=0ABcc:_b?=", "a Bcc: b"),
        ("=?utf-8?Q?a=00b?=", "ab"),
        ("=?iso-8859-1?Q?é?=", "é"),
        ("1 =?utf-8?Q?=32?= 3 =?utf-8?Q?4?=  =?utf-8?Q?5?= 6", "1 2 3 45 6"),
    ],
)
def test_encoded_words(text: str, decoded: str) -> None:
    assert decode_words(text) == decoded


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Z"], exclude_characters="\ufeff"), min_size=1))
def test_what_the_library_encodes_comes_back(text: str) -> None:
    encoded = email.header.Header("é" + text, "utf-8", maxlinelen=40).encode(linesep="\r\n")
    assert decode_words(field_text(encoded.encode())) == "é" + text


@given(st.text())
def test_words_and_parameters_never_raise(text: str) -> None:
    assert isinstance(decode_words(text), str)
    assert isinstance(parse_parameters(text)[0], str)


@pytest.mark.parametrize(
    ("text", "value", "parameters"),
    [
        ("", "", {}),
        ("Text/Plain", "text/plain", {}),
        ("text/plain; charset=UTF-8", "text/plain", {"charset": "UTF-8"}),
        ("text/plain charset=UTF-8", "text/plain", {"charset": "UTF-8"}),
        ("charset=UTF-8", "", {"charset": "UTF-8"}),
        ('a/b; boundary="x;y=z"; Name=q', "a/b", {"boundary": "x;y=z", "name": "q"}),
        ("attachment; filename=my file.pdf", "attachment", {"filename": "my file.pdf"}),
        ('a; filename="my \\"best\\" file"', "a", {"filename": 'my "best" file'}),
        ('a; filename="my "best" file"', "a", {"filename": 'my "best" file'}),
        ('a; filename="C:\\dir\\x.pdf"', "a", {"filename": "C:\\dir\\x.pdf"}),
        ('a; filename="open', "a", {"filename": "open"}),
        ('a; filename="x" junk', "a", {"filename": "x"}),
        ('a; name="=?utf-8?B?w6kucGRm?="', "a", {"name": "é.pdf"}),
        ('a; name="=?utf-8?Q?a?= =?utf-8?Q?b?="', "a", {"name": "ab"}),
        ('a; name="é.pdf"', "a", {"name": "é.pdf"}),
        ("a; filename*=utf-8''%C3%A9%20x.pdf", "a", {"filename": "é x.pdf"}),
        ("a; filename*=\"utf-8'de'%C3%A9.pdf\"", "a", {"filename": "é.pdf"}),
        ("a; filename*=%C3%A9.pdf", "a", {"filename": "é.pdf"}),
        ("a; filename*0=ab; filename*1=\"c d\"", "a", {"filename": "abc d"}),
        ("a; filename*1=b; filename*0=a; filename*10=d; filename*2=c", "a", {"filename": "abcd"}),
        ("a; filename*1=a; filename*2=b", "a", {"filename": "ab"}),
        ("a; filename*0*=iso-8859-1''%E9; filename*1=%41; filename*2*=%E8", "a", {"filename": "é%41è"}),
        ("a; filename*0*=utf-8''%C3; filename*1*=%A9", "a", {"filename": "é"}),
        ('a; filename*0="=?utf-8?Q?x=C3"; filename*1="=A9?="', "a", {"filename": "xé"}),
        ("a; filename=plain; filename*=utf-8''best", "a", {"filename": "best"}),
        ("a; x=1; x=2", "a", {"x": "1"}),
        ("a;;; =x; y; z=", "a", {"z": ""}),
        ('(one) a (two); (0) x (three) = (four) "y" (five); (6)z=1', "a (two)", {"x": "y", "z": "1"}),
        ("(one)(two) a/b; x=y", "a/b", {"x": "y"}),
        ("a; filename=(1).pdf; name=Scan (1).pdf", "a", {"filename": "(1).pdf", "name": "Scan (1).pdf"}),
        ("a; x*99999999999999999999=1; y=2", "a", {"x*99999999999999999999": "1", "y": "2"}),
    ],
)  # fmt: skip
def test_parameters(text: str, value: str, parameters: dict[str, str]) -> None:
    assert parse_parameters(text) == (value, parameters)
