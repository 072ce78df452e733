# SPDX-License-Identifier: MIT
"""What Graph gets in MIME form: who, from whom, which fields; and a body that nothing touched (contract §4, §5)."""

from __future__ import annotations

import base64
import email
import email.header
import email.message
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.message.lineends import normalised
from relay.message.mimeform import Stamp, mime_form
from relay.message.model import Address
from relay.message.parse import parse
from relay.message.recipients import from_address, partition

MAILBOX = "scanner@example.com"
STAMP = Stamp(MAILBOX, datetime(2026, 3, 1, 12, 0, tzinfo=UTC), "0123456789ABCDEF")
HEAD = "From: Scanner <scanner@example.com>\nDate: x\nMessage-ID: <a@b>\nMIME-Version: 1.0\n"


def write(
    text: str | bytes, *to: str, reverse_path: str = MAILBOX, from_: Address | None = None, reply_to: str = ""
) -> tuple[bytes, tuple[str, ...]]:
    """The MIME form and what it leaves out. text: with LF. to: the envelope, a@example.com unless given."""
    octets = normalised(text.encode() if isinstance(text, str) else text)
    message = parse(octets, strict_attachments=False)
    recipients = partition(to or ("a@example.com",), message)
    if reply_to:
        message = message._replace(reply_to=(Address("", reply_to),))
    return mime_form(octets, message, recipients, from_ or from_address(message, reverse_path, MAILBOX), STAMP)


def header_of(text: str | bytes, *to: str, **options: str) -> list[str]:
    """The fields of the result in lower-case order of their names, without those that STAMP may add."""
    header = write(text, *to, **options)[0].partition(b"\r\n\r\n")[0].decode()  # type: ignore[arg-type]
    fields = re.split(r"\r\n(?![ \t])", header)
    return sorted(
        (field for field in fields if not re.match("Date|Message-ID|MIME-Version|From", field)), key=str.lower
    )


def reading(octets: bytes) -> email.message.Message:
    return email.message_from_bytes(octets)


# --- who gets it ---


@pytest.mark.parametrize(
    ("header", "envelope", "expected"),
    [
        ("", ["a@x"], ["To: a@x"]),
        ("", ["a@x", "b@x"], ["Bcc: a@x,\r\n b@x"]),
        ("To: A <a@x>, b@x\nCc: c@x\nBcc: d@x\n", ["b@x", "d@x"], ["Bcc: d@x", "To: b@x"]),
        ("to: A <a@x>\nCC : \"C, D\" <c@x>\n", ["A@X", "c@x"], ['Cc: "C, D" <c@x>', "To: A <A@X>"]),
        ("To: undisclosed-recipients:;\n", ["a@x"], ["Bcc: a@x"]),
        ("To: friends: a@x, b@x;\n", ["a@x", "b@x"], ["To: a@x,\r\n b@x"]),
        ("To: a@x\nTo: b@x\nBcc: e@x\nbcc: f@x\n", ["a@x", "b@x"], ["To: a@x,\r\n b@x"]),
        ("Bcc: a@x\nSubject: x\n", ["a@x"], ["Subject: x", "To: a@x"]),
        ("Resent-To: r@x\nResent-Cc: s@x\nResent-Bcc: t@x\nTo: a@x\n", ["a@x"], ["To: a@x"]),
        ("To: =?iso-8859-1?q?J=FCrgen?= <a@x>\n", ["a@x"], ["To: =?utf-8?B?SsO8cmdlbg==?=\r\n <a@x>"]),
        ('To: "=?utf-8?q?J=C3=BC?= \\"x\\"" <a@x>\n', ["a@x"], ["To: =?utf-8?B?SsO8ICJ4Ig==?=\r\n <a@x>"]),
        ("To: \"O'Neil \\\\ (x)\" <a@x>\n", ["a@x"], ['To: "O\'Neil \\\\ (x)" <a@x>']),
        ("To: a@bücher.example\n", ["a@bücher.example"], ["To: a@xn--bcher-kva.example"]),
        ("To: jürgen@x.example\n", ["jürgen@x.example"], ["To: jürgen@x.example"]),
        ("Subject: x\n \nBcc: e@x\n", ["a@x"], ["Subject: x", "To: a@x"]),
        ("B\0cc: e@x\nSubject: x\n", ["a@x"], ["To: a@x"]),
    ],
)  # fmt: skip
def test_recipients(header: str, envelope: list[str], expected: list[str]) -> None:
    found = header_of(f"Subject: y\n{header}\nbody" if "B\0" in header else f"{header}X-Y: z\n\nbody", *envelope)
    assert [field for field in found if not field.startswith(("X-Y", "Subject: y"))] == expected


def test_what_is_left_out_is_named_but_for_bcc() -> None:
    octets, left_out = write(
        "From: Scanner <scanner@example.com>, b@x\nSender: boss@x\nTo: a@x\nCc: c@x\nBcc: d@x\nResent-To: r@x\n"
        "Resent-Bcc: r@x\n\nbody",
        "a@x",
    )
    assert left_out == ("Sender", "Resent-To", "From after the first address")
    assert not re.search(rb"(?mi)^(cc|bcc|resent-|sender)", octets)
    assert octets.count(b"@x") == 1


# --- from whom ---


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("From: =?utf-8?q?J=C3=BC?= <j@x>\n", ["=?utf-8?B?SsO8?=\r\n <j@x>"]),
        ("From: raw Jü <j@x>\n", ["=?utf-8?B?cmF3IErDvA==?=\r\n <j@x>"]),
        ('From: "j@x" <j@x>\n', ["j@x"]),
        ("From: j@x, k@x\n", ["j@x"]),
        ("From: j@x\nFrom: k@x\n", ["j@x"]),
        ("Subject: y\n", ["bounce@x"]),
        ("From:\n", ["bounce@x"]),
        ("From: nobody\n", ["bounce@x"]),
    ],
)
def test_from(header: str, expected: list[str]) -> None:
    octets, _ = write(f"{header}\nbody", reverse_path="bounce@x")
    assert re.findall(r"(?m)^From: (.*(?:\r\n .*)*)\r", octets.decode()) == expected


@pytest.mark.parametrize(("sender", "kept"), [("scanner@EXAMPLE.com", 1), ("j@x", 1), ("k@x", 0), ("nobody", 0)])
def test_sender_is_kept_where_exchange_takes_it(sender: str, kept: int) -> None:
    octets, left_out = write(f"From: j@x\nSender: {sender}\n\nbody")
    assert octets.count(b"Sender:") == kept
    assert left_out == (() if kept else ("Sender",))


def test_the_mailbox_in_from_and_the_original_in_reply_to() -> None:
    from_ = Address("Erp", MAILBOX)
    fields = header_of("From: Erp <e@x>\n\n", from_=from_, reply_to="e@x")  # type: ignore[arg-type]
    assert fields == ["Reply-To: e@x", "To: a@example.com"]
    assert b"From: Erp <scanner@example.com>" in write("From: Erp <e@x>\n\n", from_=from_)[0]
    assert header_of("Reply-To: none\n\n", reply_to="e@x")[0] == "Reply-To: e@x"
    assert header_of("Reply-To: Keep <k@x>,\n l@x\n\n")[0] == "Reply-To: Keep <k@x>,\r\n l@x"
    assert header_of("Reply-To: k@x\n =?utf-8?q?=2C?= =?utf-8?q?L?= <l@x>\n\n")[0] == "Reply-To: k@x,\r\n L <l@x>"


# --- the other fields ---


def test_missing_fields_are_added() -> None:
    octets, _ = write("Subject: x\n\nbody")
    assert octets == (
        b"Subject: x\r\nFrom: scanner@example.com\r\nTo: a@example.com\r\nDate: Sun, 01 Mar 2026 12:00:00 +0000\r\n"
        b"Message-ID: <0123456789ABCDEF@example.com>\r\nMIME-Version: 1.0\r\n\r\nbody"
    )
    assert write("Subject: x\nDate:\nMessage-ID: \nMime-Version:\n\nbody")[0] == octets


def test_present_fields_stay() -> None:
    head = HEAD.replace("\n", "\r\n").encode() + b"Received: by x;\r\n\tdate\r\nX-A:b\r\nList-Id: <x>\r\n"
    octets, left_out = write(head + b"\r\nbody\r\n")
    assert octets == head + b"To: a@example.com\r\n\r\nbody\r\n"
    assert left_out == ()


def test_a_message_without_a_header() -> None:
    octets, _ = write("Just text:\nreally")
    header, _, body = octets.partition(b"\r\n\r\n")
    assert body == b"Just text:\r\nreally"
    assert b"\r\nTo: a@example.com\r\n" in header
    assert reading(octets).get_content_type() == "text/plain"
    assert reading(octets).get_content_charset() == "us-ascii"
    assert reading(write(b"Gr\xfc\xdfe an alle")[0]).get_content_charset() == "windows-1252"
    assert reading(write("")[0])["To"] == "a@example.com"
    assert write("\nfirst line empty")[0].endswith(b"\r\n\r\nfirst line empty")


LONG = "word " * 300


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Subject: Grüße an alle", "Subject: =?utf-8?B?R3LDvMOfZQ==?= an alle"),
        (b"Subject: f\xfcr Gr\xfc\xdfe", "Subject: =?utf-8?B?ZsO8ciBHcsO8w59l?="),
        (b"Subject: a\0b", "Subject: ab"),
        ("Subject: =?iso-8859-1?q?=FC?= und ü x", "Subject: =?utf-8?B?w7wgdW5kIMO8?= x"),
        ("Reply-To: Jü <j@x>, k@x", "Reply-To: =?utf-8?B?SsO8?=\r\n <j@x>,\r\n k@x"),
        ("Reply-To: nobody Jü", "Reply-To: nobody =?utf-8?B?SsO8?="),
        ('Content-Type: application/pdf; name="Ü.pdf"', "Content-Type: application/pdf;\r\n name*=utf-8''%C3%9C.pdf"),
        (b"Content-Disposition: in\xfcline; filename=a", "Content-Disposition: in?line;\r\n filename=a"),
        ("X-A: b\nno colon here\nX-C: d", "X-A: b no colon here"),
        ("Subject: a\n \t\n b", "Subject: a\r\n b"),
        ("Subject: first\nSubject: second", "Subject: first"),
        (f"X-A: {LONG}end", None),
        (f"Subject: {'x' * 3000}", None),
    ],
)
def test_broken_fields_are_mended(header: str | bytes, expected: str | None) -> None:
    octets = header.encode() if isinstance(header, str) else header
    written, _ = write(octets + b"\nX-End: x\n\nbody")
    head = written.partition(b"\r\n\r\n")[0]
    assert head.isascii()
    assert b"\0" not in head
    assert all(0 < len(line) <= 998 and line.strip() for line in head.split(b"\r\n"))
    assert written.endswith(b"\r\n\r\nbody")
    if expected:
        assert head.decode().startswith(expected + "\r\n")
    else:  # unfolded it says what it said
        name = octets.partition(b":")[0].decode()
        text = str(email.header.make_header(email.header.decode_header(str(reading(written)[name]))))
        assert text.replace("\r\n", "") == octets.decode().partition(": ")[2]


def test_a_header_of_one_long_word_stays_as_it_is() -> None:
    assert b"X-A: " + b"x" * 3000 + b"\r\n" in write("X-A: " + "x" * 3000 + "\n\nbody")[0]


@pytest.mark.parametrize("words", [[1, 3000, 1], [950, 950], [899, 899, 899], [2] * 2000])
def test_folding_changes_nothing_else(words: list[int]) -> None:
    value = " ".join("x" * length for length in words)
    for blanks in ("", " " * 1000, "\t"):
        octets, _ = write(f"X-A: {blanks}{value}{blanks}\n\nbody")
        found = re.search(rb"X-A:((?:.*\r\n[ \t])*.*\r\n)", octets)
        assert found
        assert found[1].replace(b"\r\n", b"").strip() == value.encode()
        assert all(line.strip() for line in found[0].splitlines())


# --- the body ---

SIGNED = (
    b"Content-Type: multipart/signed; boundary=s\n\n--s\nContent-Type: text/plain; charset=utf-8\n"
    b"Content-Transfer-Encoding: 8bit\n\nGr\xc3\xbc\xc3\x9fe\n--s\n"
    b"Content-Type: application/pkcs7-signature\n\nx\n--s--\n"
)


@pytest.mark.parametrize(
    "octets",
    [
        b"Subject: x\n\nplain \n.\n\n\n",
        b"Subject: x\n\n" + b"x" * 5000 + b"\0 \n",
        SIGNED,
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\n" + SIGNED + b"\n--b\n\nno end",
        b"Content-Type: multipart/encrypted; boundary=b\n\n--b\n\n\xff\n--b--\n",
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\nTo: \xfc\n\n\xfc\n--b--",
        b"Content-Type: image/png\nContent-Transfer-Encoding: binary\n\n\x89PNG\xff",
        b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n=C3=BC=\n =C3=BC\n",
        b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\nw7w=\n",
        b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\nw7w=\xfc\n",
        b"DKIM-Signature: v=1\nContent-Type: text/plain; charset=utf-8\n\nGr\xc3\xbc\xc3\x9fe\n",
        b"Content-Type: multipart/mixed; boundary=b\n\npreamble \xff\n--b\n\n\n--b--\nepilogue \xff",
    ],
)
def test_bodies_that_stay_as_they_came(octets: bytes) -> None:
    octets = normalised(octets)
    assert write(octets)[0].partition(b"\r\n\r\n")[2] == octets.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("header", "octets", "charset"),
    [
        ("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit", "Grüße", "utf-8"),
        ("Content-Type: text/plain; charset=iso-8859-15", "Grüße €", "iso-8859-15"),
        ("Content-Type: text/html; charset=koi8-r; format=flowed", "Привет", "koi8-r"),
        ("Content-Type: text/plain", "Grüße", "utf-8"),
        ("Content-Type: text/plain; charset=us-ascii", "Grüße", "utf-8"),
        ("Content-Type: text/plain; charset=unknown-8bit", "Grüße", "utf-8"),
        ("Content-Type: text/plain; charset=unknown-8bit", b"\xff", "unknown-8bit"),
        ("Content-Type: text/plain", b"Gr\xfc\xdfe", "windows-1252"),
        ("Content-Type: text/plain; charset=utf-8", b"Gr\xfc\xdfe", "windows-1252"),
        ("Content-Type: text/plain; charset=utf-8", b"Gr\xc3\xbc\xdfe", "utf-8"),
        ("Content-Type: text/csv; charset=utf-8", b"Gr\xfc\xdfe", "utf-8"),
        ("Content-Type: text/csv", b"Gr\xfc\xdfe", None),
        ("Content-Type: text/html", b'<meta charset="windows-1251">\xcf', "windows-1251"),
        ("Content-Type: text", b"\xfc", "windows-1252"),
        ("Content-Transfer-Encoding: 7bit\nContent-Transfer-Encoding: binary", b"\xfc\0", "windows-1252"),
        ("X-A: b", b"\xfc" * 1000, "windows-1252"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_8_bit_text_becomes_base64(header: str, octets: str | bytes, charset: str | None, inside: bool) -> None:
    if isinstance(octets, str):
        named = charset if charset and charset in header else "utf-8"
        octets = octets.encode(named)
    part = header.encode() + b"\n\n" + octets
    text = part
    if inside:
        text = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n" + part + b"\n--b\n\nlast\n--b--\n"
    written, _ = write(HEAD.encode() + text)
    assert written.isascii()
    found = reading(written)
    leaf = found.get_payload(0) if inside else found  # type: ignore[assignment]
    assert isinstance(leaf, email.message.Message)
    assert leaf.get_payload(decode=True) == octets
    assert leaf.get_content_charset() == charset
    assert leaf.get_all("Content-Transfer-Encoding") == ["base64"]
    assert leaf.get_param("format") == ("flowed" if "flowed" in header else None)
    assert all(len(line) <= 78 for line in written.splitlines())
    if inside:
        assert written.endswith(b"\r\n--b\r\n\r\nlast\r\n--b--\r\n")


@pytest.mark.parametrize(
    ("encoding", "octets", "decoded"),
    [
        ("quoted-printable", "a =C3=BC ü=\n x", "a ü ü x".encode()),
        ("8 bit", "ü", "ü".encode()),
        ("utf-8", "=C3ü", "=C3ü".encode()),
    ],
)
def test_8_bit_text_under_another_encodings_name(encoding: str, octets: str, decoded: bytes) -> None:
    written, _ = write(f"Content-Type: text/plain\nContent-Transfer-Encoding: {encoding}\n\n{octets}")
    assert written.isascii()
    assert reading(written).get_payload(decode=True) == decoded
    assert reading(written).get_content_charset() == "utf-8"


def test_the_other_fields_of_a_re_encoded_part_stay() -> None:
    part = "--b\nContent-Description: d\nContent-type: text/plain\nContent-Disposition: inline;\n filename=x\n\nü"
    written, _ = write(f"Content-Type: multipart/mixed; boundary=b\n\n{part}")
    encoded = base64.b64encode("ü".encode())
    assert written.endswith(
        b"--b\r\nContent-Description: d\r\nContent-Type: text/plain;\r\n charset=utf-8\r\n"
        b"Content-Disposition: inline;\r\n filename=x\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded + b"\r\n"
    )


def test_a_raw_header_is_in_the_charset_of_the_text() -> None:
    text = "Subject: Привет\nFrom: Иван <a@b>\nX-A: имя\nContent-Type: text/plain; charset=windows-1251\n\nЖ"
    written = reading(write(text.encode("cp1251"))[0])
    found = [str(email.header.make_header(email.header.decode_header(written[name]))) for name in ("subject", "x-a")]
    assert found == ["Привет", "имя"]
    assert written["from"] == f"=?utf-8?B?{base64.b64encode('Иван'.encode()).decode()}?=\r\n <a@b>"
    assert written.get_payload(decode=True) == "Ж".encode("cp1251")


def test_a_multipart_that_does_not_name_its_boundary_is_told_it() -> None:
    body = "--real\nContent-Type: text/plain\n\none\n--real\nContent-Type: text/html\n\ntwo\n--real--\n"
    for named in ("", "; boundary=other", "; type=x; boundary=real2"):
        written, _ = write(f"Content-Type: multipart/mixed{named}\n\n{body}")
        assert [part.get_payload() for part in reading(written).get_payload()] == ["one", "two"]  # type: ignore[union-attr]
        assert written.endswith(body.replace("\n", "\r\n").encode())


def test_a_multipart_without_parts_is_text() -> None:
    written, _ = write("Content-Type: multipart/mixed; boundary=x\n\nno part at all")
    assert reading(written).get_content_type() == "text/plain"
    assert reading(written).get_payload() == "no part at all"
    written, _ = write("Content-Type: multipart/mixed; boundary=x\n\nGrüße")
    assert reading(written).get_payload(decode=True) == "Grüße".encode()


@given(st.binary(max_size=400), st.booleans())
def test_any_octets_become_a_message_for_the_envelope_alone(octets: bytes, in_header: bool) -> None:
    text = b"Subject: x\n" + octets + b"\n\nbody" if in_header else octets
    written, _ = write(text, "a@example.com", "b@example.com")
    found = reading(written)
    named = [found[name] for name in ("to", "cc", "bcc") if found[name]]
    addresses = re.findall(r"[^\s<>,]+@[^\s<>,]+", " ".join(map(str, named)))
    assert sorted(address.lower() for address in addresses) == ["a@example.com", "b@example.com"]
    assert len(found.get_all("from")) == 1  # type: ignore[arg-type]
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", written)
    assert written.partition(b"\r\n\r\n")[0].isascii()
