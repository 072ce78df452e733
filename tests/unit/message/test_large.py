# SPDX-License-Identifier: MIT
"""Messages over 1 MiB, which lie in a file and are worked on in pieces: the same comes out as of a small one."""

from __future__ import annotations

import base64

import pytest

from relay.message.lineends import normalised
from relay.message.model import Attachment
from relay.message.parse import parse
from relay.spool import WINDOW_BYTES, Spool, Spooled, view_of

FILE = bytes(range(251)) * 8000  # 2 MB


def spooled(octets: bytes) -> Spooled:
    spool = Spool()
    spool.append(octets)
    content = spool.finish()
    assert isinstance(content, Spooled)
    return content


def message(encoded: bytes, encoding: str = "base64") -> bytes:
    return (
        b'From: a@example.com\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nText\r\n--b\r\n'
        b"Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=f.bin\r\n"
        b"Content-Transfer-Encoding: %s\r\n\r\n%s\r\n--b\r\n\r\nMore\r\n--b--\r\n" % (encoding.encode(), encoded)
    )


def lines(octets: bytes, length: int, end: bytes = b"\r\n") -> bytes:
    encoded = base64.b64encode(octets)
    return end.join(encoded[at : at + length] for at in range(0, len(encoded), length))


def attachment(content: bytes) -> Attachment:
    parsed = parse(view_of(spooled(content)), strict_attachments=True)
    assert parsed.body.content.startswith("Text")
    assert "More" in parsed.body.content
    assert parsed.warnings == ()
    [found] = parsed.attachments
    return found


@pytest.mark.parametrize(
    "encoded",
    [
        lines(FILE, 76),
        lines(FILE[:-1], 76),
        lines(FILE[:-2], 76),
        lines(FILE, 60),
        lines(FILE, 75),  # no whole groups on a line
        lines(FILE, 4_000_000),  # one line
        lines(FILE, 76, b" \r\n\t"),
        lines(FILE, 76).rstrip(b"="),
        lines(FILE[:1_000_000], 76) + b"\r\n" + lines(FILE[1_000_000:], 76),  # padding in the middle
    ],
    ids=["76", "one-pad", "two-pads", "60", "75", "one-line", "blanks", "no-padding", "two-texts"],
)
def test_base64(encoded: bytes) -> None:
    found = bytes(attachment(message(encoded)).content)
    assert found in (FILE, FILE[:-1], FILE[:-2])


@pytest.mark.parametrize("at", [0, 1_500_000])
def test_what_is_no_base64_comes_as_it_is(at: int) -> None:
    encoded = bytearray(lines(FILE, 76))
    encoded[at] = ord("!")
    content = message(bytes(encoded))
    [found] = parse(view_of(spooled(content)), strict_attachments=False).attachments
    [expected] = parse(content, strict_attachments=False).attachments
    assert bytes(found.content) == bytes(expected.content) == bytes(encoded)


@pytest.mark.parametrize("encoding", ["7bit", "quoted-printable"])
def test_other_encodings(encoding: str) -> None:
    text = b"A line of text.\r\n" * 100_000
    assert bytes(attachment(message(text[:-2], encoding)).content) == text[:-2]


@pytest.mark.parametrize("shift", range(0, 40, 3))
def test_a_delimiter_at_the_edge_of_a_window(shift: int) -> None:
    text = b"x" * (WINDOW_BYTES * 5 - 200 + shift)
    assert bytes(attachment(message(text, "8bit")).content) == text


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\r\n\r", b"\n\r\n", b"\r\r"])
@pytest.mark.parametrize("length", [61, 62, 63])
def test_line_ends(end: bytes, length: int) -> None:
    content = (b"x" * length + end) * 40_000
    assert bytes(normalised(spooled(content))) == normalised(content)


def test_a_sound_message_is_not_written_again() -> None:
    content = spooled(b"A line.\r\n" * 200_000)
    assert normalised(content) is content
