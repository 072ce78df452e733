# SPDX-License-Identifier: MIT
"""Address lists: RFC 5322's forms, its obsolete ones, and what is sent in their place."""

from __future__ import annotations

import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.message.address import canonical, is_address, is_address_again, parse_address_list

Pairs = list[tuple[str, str]]


def read(raw: str) -> Pairs:
    return [(entry.name, entry.addr) for entry in parse_address_list(raw)]


@pytest.mark.parametrize(
    ("raw", "entries"),
    [
        ("", []),
        ("a@b.c", [("", "a@b.c")]),
        ("<a@b>", [("", "a@b")]),
        ("Bob <a@b>, c@d", [("Bob", "a@b"), ("", "c@d")]),
        ('"Doe, John" <a@b>', [("Doe, John", "a@b")]),
        ('"a \\"b\\" \\\\c" <a@b>', [('a "b" \\c', "a@b")]),
        ('"Q" Public <a@b>', [("Q Public", "a@b")]),
        ("John Q. Public <a@b>", [("John Q. Public", "a@b")]),
        ("Müller <a@b>", [("Müller", "a@b")]),
        ("  Bob\t  Smith\r\n  < a@b >", [("Bob Smith", "a@b")]),
        # comments
        ("a@b (Bob)", [("Bob", "a@b")]),
        ("<a@b> (Bob (the \\) builder)), c@d", [("Bob (the ) builder)", "a@b"), ("", "c@d")]),
        ("(x) Bob (y) <a(z)@(z)b>", [("Bob", "a@b")]),
        ("a@b (x, c@d)", [("x, c@d", "a@b")]),
        ("a@b ( open", [("", "a@b")]),
        ("( a@b, c@d", [("(", "a@b"), ("", "c@d")]),
        # groups
        ("undisclosed-recipients:;", []),
        ("Undisclosed recipients: ;, a@b", [("", "a@b")]),
        ("Team: a@b, Bob <c@d>; e@f", [("", "a@b"), ("Bob", "c@d"), ("", "e@f")]),
        ('"My team": a@b;', [("", "a@b")]),
        ("A:;B:c@d;", [("", "c@d")]),
        # obsolete
        ("Bob <@x.y,@z:a@b>", [("Bob", "a@b")]),
        ("<@x:a@b>, c@d", [("", "a@b"), ("", "c@d")]),
        ("a . b @ c . d", [("", "a.b@c.d")]),
        ("<a . b @ c . d>", [("", "a.b@c.d")]),
        (",, a@b,,", [("", "a@b")]),
        # literals and quoted local parts
        ("a@[192.0.2.1]", [("", "a@[192.0.2.1]")]),
        ("<a@[IPv6:2001:db8::1]>", [("", "a@[IPv6:2001:db8::1]")]),
        ('"a b"@c', [("", '"a b"@c')]),
        ('X <"a,b"@c>', [("X", '"a,b"@c')]),
        # encoded words
        ("=?utf-8?Q?Doe=2C_J=C3=B6hn?= <a@b>", [("Doe, Jöhn", "a@b")]),
        ("A <a@b> =?utf-8?q?=2C?= =?utf-8?q?=C3=A4?= <c@d>", [("A", "a@b"), ("ä", "c@d")]),  # Python before 3.12
        ("=?utf-8?q?B=C3=B6b_=3Cb@c=3E?=", [("Böb", "b@c")]),  # against RFC 2047 §5
        ("=?utf-8?B?QiA8YkBjPiwgZEBl?=", [("B", "b@c"), ("", "d@e")]),
        ("=?utf-8?q?b@c?=", []),
        ("<mailto:a@b>, c <SMTP:c@d>", [("", "a@b"), ("c", "c@d")]),
        ("a@b =?utf-8?q?=2C?= =?utf-8?q?=C3=A4?= <c@d>", [("", "a@b"), ("ä", "c@d")]),
        ("=?utf-8?q?=C3=A4?= =?utf-8?q?=2C?= x <c@d>", [("ä, x", "c@d")]),
        ("=?utf-8?Q?Doe,_John?= <a@b>, c@d", [("Doe, John", "a@b"), ("", "c@d")]),
        ('=?utf-8?Q?"x?= <a@b>, c@d', [('"x', "a@b"), ("", "c@d")]),
        ("=?utf-8?Q?(x;:<?= <a@b>", [("(x;:<", "a@b")]),
        ("=?utf-8?Q?=3Cx@y=3E?= <a@b>", [("<x@y>", "a@b")]),
        ("=?utf-8?Q?=22?= <a@b>, =?utf-8?Q?=22?= <c@d>", [('"', "a@b"), ('"', "c@d")]),
        ("=?utf-8?Q?a?= =?utf-8?Q?b?= <a@b>", [("ab", "a@b")]),
        ('"=?utf-8?Q?=C3=B6?=" <a@b>', [("ö", "a@b")]),
        ("a@b (=?utf-8?Q?=C3=B6?=)", [("ö", "a@b")]),
        # not by the book
        ("a@b; c@d", [("", "a@b"), ("", "c@d")]),
        ("Bob <a@b>; Eve <c@d>", [("Bob", "a@b"), ("Eve", "c@d")]),
        ("Bob <a@b> Eve <c@d>", [("Bob", "a@b"), ("Eve", "c@d")]),
        ("<a@b><c@d>", [("", "a@b"), ("", "c@d")]),
        ("a@b c@d", [("", "a@b"), ("", "c@d")]),
        ("Bob a@b, Eve c@d", [("Bob", "a@b"), ("Eve", "c@d")]),
        ('"a@b" <a@b>', [("a@b", "a@b")]),
        ("a@b <a@b>", [("a@b", "a@b")]),
        ("a@b <>", [("", "a@b")]),
        ("mailto:a@b", [("", "a@b")]),
        ("<<a@b>>", [("", "a@b")]),
        ("<a@b, c@d", [("", "a@b"), ("", "c@d")]),
        ("<a@b <c@d>", [("", "a@b"), ("", "c@d")]),
        ("a@b>, c@d", [("", "a@b"), ("", "c@d")]),
        ('"open <a@b>, c@d', [('"open', "a@b"), ("", "c@d")]),
        ("[Ticket 5] Bob <a@b>", [("[Ticket 5] Bob", "a@b")]),
        ("Doe, John <a@b>", [("John", "a@b")]),
        ("Bob, Eve; nobody", []),
        ("@, a@, @b, a@b@c, <>, <x>, ;:,", []),
        ("\\", []),
        ("a@b\\", []),
    ],
)
def test_lists(raw: str, entries: Pairs) -> None:
    assert read(raw) == entries


ATOM = st.text("abcxyz0189-_+", min_size=1, max_size=8)
ADDR = st.builds("{}@{}.example".format, ATOM, ATOM)
NAME = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Z"]), max_size=12)


@given(st.lists(st.tuples(NAME, ADDR)))
def test_what_the_library_writes_is_read_back(entries: Pairs) -> None:
    raw = ", ".join(email.utils.formataddr(entry) for entry in entries)
    expected = [(name.replace("\ufeff", ""), addr) for name, addr in entries]
    assert [(name.replace("\ufeff", ""), addr) for name, addr in read(raw)] == expected


@given(st.lists(st.tuples(st.text("ab ,;:<>()\"\\'.", max_size=8), ADDR), min_size=1))
def test_sane_lists_are_read_as_the_library_does(entries: Pairs) -> None:
    quoted = ['"' + name.replace("\\", "\\\\").replace('"', '\\"') + f'" <{addr}>' for name, addr in entries]
    raw = ", ".join(quoted)
    assert [addr for _, addr in read(raw)] == [addr for _, addr in email.utils.getaddresses([raw])]
    assert [name for name, _ in read(raw)] == [" ".join(name.split()) for name, _ in entries]


@given(st.text('ab@.,;:<>()[]"\\ =?utf-8?Q?x?='))
def test_anything_gives_addresses_or_nothing(raw: str) -> None:
    for entry in parse_address_list(raw):
        assert is_address(entry.addr)
        assert "\n" not in entry.name


@pytest.mark.parametrize("piece", ["(", "()", "<", '"', '\\"', "[", "=?", "a@b ", "<a@b>", "a@b : ", ",", "=?a?q?b?= "])
def test_hostile_lists_end(piece: str) -> None:
    """A quadratic or recursive reading of these would run for hours, or into the recursion limit."""
    assert len(parse_address_list(piece * 300_000)) <= 250_000


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Bob@Example.COM", "bob@example.com"),
        ("a@example.com.", "a@example.com"),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("a@BÜCHER.example", "A@XN--BCHER-KVA.EXAMPLE."),
        ("a@bu\u0308cher.example", "a@bücher.example"),
        ("a@bücher。example", "a@bücher.example"),
        ("é@x", "É@X"),
        ("e\u0301@x", "é@x"),
        ('"bob"@x', "bob@x"),
        ('"a b"@x', '"A b"@X'),
        ("a@\u2603..x", "A@\u2603..X"),
        ("nobody", "NOBODY"),
    ],
)
def test_the_same_address(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("a@x", "b@x"), ("a@x", "a@y"), ('"a b"@x', "ab@x"), ("a@bücher.example", "a@bucher.example"), ("a.b@x", "ab@x")],
)
def test_another_address(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


@given(st.text())
def test_canonical_never_raises_and_takes_no_notice_of_case(addr: str) -> None:
    assert canonical(addr) == canonical(addr.upper().lower()) or addr.lower() != addr.upper().lower()


def test_a_domain_too_long_for_a_name_is_compared_as_it_stands() -> None:
    assert canonical("x@" + "É" * 100_000) == "x@" + "é" * 100_000


@pytest.mark.parametrize(
    ("name", "found"),
    [("a@b", True), ("'a@b.c'", True), ("<a@b>", True), ("(a@b)", True), ("Scan (a@b.c)", False), ("5 @ 3", False)],
)
def test_names_that_are_an_address(name: str, found: bool) -> None:
    assert is_address_again(name) is found
