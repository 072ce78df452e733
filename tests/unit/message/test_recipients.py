# SPDX-License-Identifier: MIT
"""Who stands where: contract §4."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.message.address import canonical
from relay.message.model import Address, Message
from relay.message.recipients import from_address, partition

Placed = tuple[list[tuple[str, str]], list[tuple[str, str]], list[tuple[str, str]]]


def place(envelope: list[str], to: list[Address] | None = None, cc: list[Address] | None = None) -> Placed:
    message = Message(to=tuple(to or ()), cc=tuple(cc or ()), has_to_or_cc=to is not None or cc is not None)
    found = partition(envelope, message)
    to_, cc_, bcc_ = ([(entry.name, entry.addr) for entry in group] for group in (found.to, found.cc, found.bcc))
    return to_, cc_, bcc_


def test_named_ones_stand_where_the_header_names_them_and_the_others_are_hidden() -> None:
    to = [Address("Bob", "bob@x"), Address("", "outside@x"), Address("Al", "al@x")]
    cc = [Address("Cy", "cy@x"), Address("Bob again", "bob@x")]
    assert place(["hidden@x", "AL@X", "cy@x", "bob@x"], to, cc) == (
        [("Bob", "bob@x"), ("Al", "AL@X")],
        [("Cy", "cy@x")],
        [("", "hidden@x")],
    )


def test_without_to_and_cc() -> None:
    assert place(["a@x"]) == ([("", "a@x")], [], [])
    assert place(["a@x", "A@X"]) == ([("", "a@x")], [], [])
    assert place(["a@x", "b@x"]) == ([], [], [("", "a@x"), ("", "b@x")])
    assert place([]) == ([], [], [])


def test_a_header_that_names_nobody_hides_even_a_single_recipient() -> None:
    assert place(["a@x"], []) == ([], [], [("", "a@x")])
    assert place(["a@x"], None, [Address("", "b@x")]) == ([], [], [("", "a@x")])


def test_domains_are_compared_in_either_form_and_the_envelope_is_kept() -> None:
    assert place(["a@xn--bcher-kva.example"], [Address("Bü", "A@bücher.example")])[0] == [
        ("Bü", "a@xn--bcher-kva.example")
    ]


def test_a_recipients_display_name_stays_whatever_it_is() -> None:
    """Only in From it is taken for an address."""
    assert place(["a@x", "b@x"], [Address("a@x", "a@x"), Address("Bob (b@x)", "b@x")])[0] == [
        ("a@x", "a@x"),
        ("Bob (b@x)", "b@x"),
    ]


ADDR = st.sampled_from(["a@x.example", "A@X.EXAMPLE", "b@x.example", "c@bücher.example", "c@xn--bcher-kva.example",
                        '"b"@x.example', "d@x.example.", "D@x.example"])  # fmt: skip
ENTRIES = st.none() | st.lists(st.builds(Address, st.sampled_from(["", "Bob", "q@z"]), ADDR))


@given(st.lists(ADDR), ENTRIES, ENTRIES)
def test_exactly_the_envelope_each_once(
    envelope: list[str], to: list[Address] | None, cc: list[Address] | None
) -> None:
    placed = place(envelope, to, cc)
    addrs = [addr for group in placed for _, addr in group]
    assert sorted(map(canonical, addrs)) == sorted({canonical(addr) for addr in envelope})
    assert set(addrs) <= set(envelope)
    named_to = {canonical(entry.addr) for entry in to or ()}
    named_cc = {canonical(entry.addr) for entry in cc or ()}
    if to is not None or cc is not None:
        assert all(canonical(addr) in named_to for _, addr in placed[0])
        assert all(canonical(addr) in named_cc - named_to for _, addr in placed[1])
        assert all(canonical(addr) not in named_to | named_cc for _, addr in placed[2])


@pytest.mark.parametrize(
    ("from_", "reverse_path", "expected"),
    [
        ((Address("Bob", "bob@x"), Address("", "z@x")), "env@x", Address("Bob", "bob@x")),
        ((Address("bob@x", "bob@x"),), "env@x", Address("", "bob@x")),
        ((Address("'bob@x'", "bob@x"),), "env@x", Address("", "bob@x")),
        ((Address("<other@y>", "bob@x"),), "env@x", Address("", "bob@x")),
        ((Address("'bob@x' via List", "bob@x"),), "env@x", Address("'bob@x' via List", "bob@x")),
        ((Address("Bob @ home", "bob@x"),), "env@x", Address("Bob @ home", "bob@x")),
        ((), "env@x", Address("", "env@x")),
        ((), "", Address("", "mailbox@x")),
    ],
)
def test_from(from_: tuple[Address, ...], reverse_path: str, expected: Address) -> None:
    assert from_address(Message(from_=from_), reverse_path, "mailbox@x") == expected
