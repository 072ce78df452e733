# SPDX-License-Identifier: MIT
"""Line ends of mail data. The short way for even lines must say the same as the long one, whatever stands there."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.message import lineends
from relay.message.lineends import normalised, without_line_ends

LINE = b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4\r\n"
LONG = LINE * 400


@pytest.fixture(autouse=True, scope="module")
def _short_is_long() -> Iterator[None]:
    """Few octets are taken for many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lineends, "_MANY_OCTETS", 0)
        yield


@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"a", b"bc", b"abcd\r\n", b"abcd\r\n" * 5]), max_size=40))
def test_as_replace_does(pieces: list[bytes]) -> None:
    octets = b"".join(pieces)
    assert without_line_ends(octets) == octets.replace(b"\r\n", b"")


@pytest.mark.parametrize("seed", range(300))
def test_as_replace_does_with_even_lines(seed: int) -> None:
    """Lines of one length, with a few things put in, taken out or put in the place of others."""
    chance = random.Random(seed)
    length = chance.choice([1, 2, 3, 5, 76, 77])
    octets = bytearray((bytes(chance.choice(b"ab") for _ in range(length)) + b"\r\n") * chance.randrange(1, 60))
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(octets) + 1)
        octets[at : at + chance.choice([0, 1, 2])] = chance.choice(
            [b"", b"\r", b"\n", b"\r\n", b"x", b"\n\r", b"\r\r\n"]
        )
    for whole in (bytes(octets), b"To: x\r\n\r\n" + octets, octets + b"\r\n--x--\r\n", octets * 3 + b"\r"):
        assert without_line_ends(bytes(whole)) == bytes(whole).replace(b"\r\n", b"")


def test_even_lines_take_the_short_way() -> None:
    octets = b"Subject: x\r\n" * 9 + b"\r\n" + LONG + b"--end--\r\n"
    start, end, length = lineends._even_lines(octets)
    assert (octets[start:end], length) == (LONG, len(LINE))


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (LONG, LONG),
        (LONG.replace(b"\r\n", b"\n"), LONG),
        (LONG.replace(b"\r\n", b"\r"), LONG),
        (LONG.replace(b"\r\n", b"\r\r\n"), LONG),
        (LONG + b"a\nb", LONG + b"a\r\nb"),
        (b"a\rb\r\n" + LONG, b"a\r\nb\r\n" + LONG),
        (LONG + b"a\n" + LONG, LONG + b"a\r\n" + LONG),
    ],
    ids=["normal", "lf", "cr", "cr_cr_lf", "one_lf_behind", "one_cr_before", "one_lf_between"],
)
def test_normalised(octets: bytes, expected: bytes) -> None:
    assert normalised(octets) == expected
