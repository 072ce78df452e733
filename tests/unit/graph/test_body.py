# SPDX-License-Identifier: MIT
"""Bodies in pieces: the same octets, the length known beforehand, and the moment known at which all are out."""

from __future__ import annotations

import base64
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from relay.graph.body import Base64, Body, Content

PIECES = st.lists(
    st.one_of(
        st.binary(max_size=300_000),
        st.binary(max_size=300_000).map(memoryview),
        st.builds(Base64, st.binary(max_size=300_000)),
    )
)


@given(PIECES)
def test_the_octets_are_those_of_the_pieces(pieces: list[bytes | memoryview | Base64]) -> None:
    content = Content(tuple(pieces))
    expected = b"".join(base64.b64encode(p.octets) if isinstance(p, Base64) else bytes(p) for p in pieces)
    assert bytes(content) == expected
    assert len(content) == len(expected)
    assert all(content)


def test_base64_of_more_than_a_block() -> None:
    for size in (98_303, 98_304, 98_305, 196_608, 300_000):
        octets = bytes(range(256)) * (size // 256 + 1)
        assert bytes(Content((Base64(octets[:size]),))) == base64.b64encode(octets[:size])


def test_finished_when_asked_for_more_behind_the_last() -> None:
    for content in (b"x" * 200_000, Content((b"", b"x" * 100_000, b"", b"y" * 100_000, b""))):
        body = Body(content)
        assert len(body) == 200_000
        pieces = iter(body)
        taken = 0
        while taken < 200_000:
            assert not body.finished
            taken += len(next(pieces))
        assert not body.finished, "the last piece may not be on the wire yet"
        assert list(pieces) == []
        assert body.finished


def test_nothing_to_send_is_sent_with_the_head() -> None:
    assert Body(b"").finished
    assert Body(Content(())).finished


def test_an_attachment_is_not_held_twice() -> None:
    body = Body(Content((Base64(bytes(10_000_000)),)))
    tracemalloc.start()
    try:
        assert sum(map(len, body)) == len(body)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_nothing_of_it_shows() -> None:
    assert "secret" not in repr(Content((b"secret", Base64(b"secret"))))
