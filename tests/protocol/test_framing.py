# SPDX-License-Identifier: MIT
"""Framing: segments change nothing, dots come back, only CR LF . CR LF ends a message, and no octets raise."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.clock import Deadline
from relay.identity import Client, Identity
from relay.smtp.envelope import Envelope
from relay.smtp.lineio import DataTooLarge, LineIO
from relay.smtp.reply import Reply
from relay.smtp.session import Session
from tests.support.backend import CLIENT, MemoryBackend
from tests.support.clock import FakeClock
from tests.support.dialog import SETTINGS
from tests.support.wire import ENVELOPE, LOGIN, SegmentSocket, converse, line_io, room

END = b"\r\n.\r\n"
PIECE = 65536  # what one recv() asks for

# Octets as an enemy picks them: mostly those that mean something.
octet = st.sampled_from([b"\r\n.\r\n", b"\r\n", b"\r", b"\n", b".", b"\0", b"a", b"\r\n.", b".\r\n", b"\xff"])
body = st.lists(octet, max_size=40).map(b"".join)


def stuff(content: bytes) -> bytes:
    """What a client by RFC 5321 §4.5.2 sends for lines of content."""
    return re.sub(rb"(\A|(?<=\r\n))\.", b"..", content)


def split(octets: bytes, cuts: list[int]) -> list[bytes]:
    return [
        octets[start:end] for start, end in pairwise(sorted({0, *(c % (len(octets) + 1) for c in cuts), len(octets)}))
    ]


commands = st.sampled_from(
    [
        b"NOOP\r\n",
        b"RSET\n",
        b"EHLO x\r\n",
        LOGIN,
        ENVELOPE,
        ENVELOPE + b"text\r\n..x\r\n.\r\n",
        b"MAIL FROM:<>\r\n",
        b"RCPT TO:<bad>\r\n",
        b"\r\n",
        b"AUTH LOGIN\r\n",
        b"*\r\n",
        b"AUTH PLAIN AHgAeQ==\r\n",
        b"QUIT\r\n",
        b"X" * 600 + b"\r\n",
        b".\r\n",
        b"\n.\n",
        b"\x00\xff\r\n",
    ]
)


@given(st.lists(commands, max_size=12).map(b"".join), st.lists(st.integers(0, 10_000), max_size=30))
def test_any_split_gives_the_same_dialogue(octets: bytes, cuts: list[int]) -> None:
    assert converse(split(octets, cuts)).without_writes() == converse([octets]).without_writes()


@given(st.lists(st.one_of(commands, octet, st.binary(max_size=30)), max_size=20).map(b"".join))
def test_octet_by_octet_gives_the_same_dialogue(octets: bytes) -> None:
    assert converse(split(octets, list(range(len(octets))))).without_writes() == converse([octets]).without_writes()


@given(st.binary(max_size=400), st.booleans())
def test_any_octets_never_raise(octets: bytes, in_data: bool) -> None:
    outcome = converse([LOGIN + ENVELOPE + octets] if in_data else [octets])
    assert b"421 4.3.0" not in outcome.replies, "a fault of the session"
    for line in outcome.replies.splitlines(keepends=True):
        assert re.fullmatch(rb"[2-5][0-9]{2}[ -][ -~]*\r\n", line), line


@given(body, body)
def test_dot_stuffing_round_trip(first: bytes, second: bytes) -> None:
    """What a client stuffs comes out as it was, and the next message does not suffer."""
    wanted = [content.replace(END, b"\r\n") + b"\r\n" for content in (first, second)]
    sent = b"".join(ENVELOPE + stuff(content) + b".\r\n" for content in wanted)
    assert list(converse([LOGIN + sent + b"QUIT\r\n"]).contents) == wanted


@given(body, st.integers(0, 60))
def test_data_limit_by_the_octet(content: bytes, limit: int) -> None:
    """The size that counts is the one that is handed on; what is over it is drained to its end all the same."""
    content += b"\r\n"
    io, _ = line_io([stuff(content) + b".\r\nNOOP\r\n"])
    if len(content) > limit:
        with pytest.raises(DataTooLarge):
            io.read_data(limit, room())
    else:
        assert io.read_data(limit, room()) == content
    assert io.read_line() == b"NOOP"


def reference(raw: bytes) -> list[bytes]:
    """The messages in what stands behind DATA, by the letter of RFC 5321: split at CR LF, and nothing else."""
    found: list[bytes] = []
    lines: list[bytes] = []
    for line in raw.split(b"\r\n")[:-1]:
        if line == b".":
            found.append(b"".join(lines))
            return found
        lines.append((line[1:] if line.startswith(b".") else line) + b"\r\n")
    return found


@given(body)
def test_the_end_is_where_the_standard_has_it(raw: bytes) -> None:
    first = converse([LOGIN + ENVELOPE + raw]).contents[:1]
    assert list(first) == reference(raw)


SMUGGLED = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\nSubject: forged\r\n\r\nx"
NO_ENDS = {
    "LF.LF": b"\n.\n",
    "LF.CRLF": b"\n.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CR.CR": b"\r.\r",
    "CRLF.CR": b"\r\n.\r",
    "CR.CRLF": b"\r.\r\n",
    "CR.LF": b"\r.\n",
    "LF.CR": b"\n.\r",
    "CRLF.CRCRLF": b"\r\n.\r\r\n",
    "CRCRLF.": b"\r\r\n.\n",
    "CRLF..CRLF": b"\r\n..\r\n",
    "CRLF.blank": b"\r\n. \r\n",
    "CRLFblank.": b"\r\n .\r\n",
    "CRLF.NUL": b"\r\n.\0\r\n",
    "NUL before dot": b"\r\n\0.\r\n",
    "NUL in CRLF": b"\r\0\n.\r\n",
    "NUL in last CRLF": b"\r\n.\r\0\n",
    "dot of two octets": b"\r\n\xc0\xae\r\n",
    "fullwidth dot": "\r\n\uff0e\r\n".encode(),
    "NEL": b"\x85.\x85",
    "LS": "\u2028.\u2028".encode(),
    "FF": b"\x0c.\x0c",
}


@pytest.mark.parametrize("no_end", NO_ENDS.values(), ids=NO_ENDS.keys())
def test_smuggling(no_end: bytes) -> None:
    """One message goes in, one comes out, and the smuggled envelope is part of its text."""
    data = b"Subject: x\r\n\r\ntext" + no_end + SMUGGLED + END
    octets = LOGIN + ENVELOPE + data + b"QUIT\r\n"
    for segments in ([octets], split(octets, list(range(len(octets))))):
        outcome = converse(segments)
        assert outcome.paths == (("a@example.com", "b@example.com"),)
        assert b"evil@example.com" in outcome.contents[0]
        assert outcome.replies.endswith(b"221 2.0.0 Bye\r\n")


@pytest.mark.parametrize("no_end", NO_ENDS.values(), ids=NO_ENDS.keys())
def test_smuggling_in_a_message_that_is_too_large(no_end: bytes) -> None:
    """Draining looks for the same end as reading."""
    io, _ = line_io([b"x" * 100 + no_end + SMUGGLED + END + b"NOOP\r\n"])
    with pytest.raises(DataTooLarge):
        io.read_data(50, room())
    assert io.read_line() == b"NOOP"


@pytest.mark.parametrize("at", range(len(END) + 1))
def test_the_end_cut_anywhere(at: int) -> None:
    io, _ = line_io([b"text" + END[:at], END[at:] + b"NOOP\r\n"])
    assert io.read_data(1000, room()) == b"text\r\n"
    assert io.read_line() == b"NOOP"


@pytest.mark.parametrize("at", range(PIECE - 8, PIECE + 4))
@pytest.mark.parametrize("line", [b"\r\n.", b"\r\n..", b"\r\n.x", *list(NO_ENDS.values())[:5]])
def test_a_dot_at_the_edge_of_the_buffer(at: int, line: bytes) -> None:
    """Wherever the edge of a read falls, the octets come out as they do in one piece."""
    raw = b"a" * at + line + b"z" + END
    wanted = reference(raw)[0]
    io, _ = line_io([raw + b"NOOP\r\n"])
    assert io.read_data(1 << 20, room()) == wanted
    assert io.read_line() == b"NOOP"


@pytest.mark.parametrize("at", range(PIECE - 8, PIECE + 4))
def test_the_end_at_the_edge_of_the_buffer(at: int) -> None:
    io, _ = line_io([b"a" * at + END + b"NOOP\r\n"])
    assert io.read_data(1 << 20, room()) == b"a" * at + b"\r\n"
    assert io.read_line() == b"NOOP"


def test_pipelined_replies_leave_in_one_piece() -> None:
    """RFC 2920 §3.2: a group of commands that came at once is answered at once."""
    group = b"MAIL FROM:<a@example.com>\r\n" + b"RCPT TO:<b@example.com>\r\n" * 50
    outcome = converse([LOGIN, group, b"QUIT\r\n"])
    assert [write.count(b"\r\n") for write in outcome.writes] == [1, 10, 51, 1]


class Watched(MemoryBackend):
    """Takes down what had left for the client by the time that a message was submitted."""

    sock: SegmentSocket
    left: bytes = b""

    def submit(
        self, envelope: Envelope, content: bytes, identity: Identity, client: Client, gone: Callable[[], bool]
    ) -> Reply:
        self.left = b"".join(self.sock.sent)
        return super().submit(envelope, content, identity, client, gone)


class BrokenSocket(SegmentSocket):
    """The client is gone behind the greeting."""

    def sendall(self, data: bytes, /) -> None:
        if self.sent:
            raise BrokenPipeError
        super().sendall(data)


ALL_AT_ONCE = (
    LOGIN + ENVELOPE + b"x\r\n.\r\nNOOP\r\n",
    LOGIN + ENVELOPE.replace(b"DATA", b"BDAT 3 LAST") + b"x\r\nNOOP\r\n",
)


@pytest.mark.parametrize("octets", ALL_AT_ONCE, ids=["DATA", "BDAT"])
def test_pipelined_replies_do_not_wait_for_the_upstream(octets: bytes) -> None:
    """RFC 3030 §4.2: a chunk may come in one group with MAIL and RCPT, whose replies are due sooner than its own."""
    backend = Watched()
    io, backend.sock = line_io([octets])
    Session(io, CLIENT, backend, SETTINGS).run()
    assert re.findall(rb"(?m)^\d+ \d[.]\d[.]\d", backend.left) == [b"235 2.7.0", b"250 2.1.0", b"250 2.1.5"]
    assert b"".join(backend.sock.sent).endswith(b"queued as MESSAGE1\r\n250 2.0.0 Ok\r\n")
    assert backend.heard == [True]


@pytest.mark.parametrize("octets", ALL_AT_ONCE, ids=["DATA", "BDAT"])
def test_a_whole_message_goes_out_for_a_client_that_has_gone(octets: bytes) -> None:
    """Some send all that they have, and close: they do not come again. The backend is told that nobody heard it."""
    backend = MemoryBackend()
    clock = FakeClock()
    sock = BrokenSocket([octets], clock)
    Session(LineIO(sock, clock, 60, Deadline(clock, 300)), CLIENT, backend, SETTINGS).run()
    assert [delivery.content for delivery in backend.deliveries] == [b"x\r\n"]
    assert backend.heard == [False]
