# SPDX-License-Identifier: MIT
"""Which part is what, and that nothing is lost (contract §5)."""

from __future__ import annotations

import base64
import email.message
import email.policy
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.message.model import Address, Attachment, Body, Message, MessageError
from relay.message.parse import parse

DATA = Path(__file__).parents[2] / "data" / "messages"


def read(text: str | bytes, *, strict: bool = False) -> Message:
    octets = text.encode() if isinstance(text, str) else text
    return parse(octets.replace(b"\n", b"\r\n"), strict_attachments=strict)


def multipart(subtype: str, *parts: str, top: str = "") -> str:
    inside = "".join(f"--b\n{part}\n" for part in parts)
    return f"{top}Content-Type: multipart/{subtype}; boundary=b\n\n{inside}--b--\n"


def nested(subtype: str, *parts: str) -> str:
    inside = "".join(f"--n\n{part}\n" for part in parts)
    return f"Content-Type: multipart/{subtype}; boundary=n\n\n{inside}--n--"


def names(message: Message) -> list[str]:
    return [attachment.name for attachment in message.attachments]


TEXT = "Content-Type: text/plain\n\ntext"
HTML = "Content-Type: text/html\n\n<p>html</p>"
NAMED_HTML = "Content-Type: text/html; name=b.htm\n\nx"
PDF = "Content-Type: application/pdf; name=x.pdf\nContent-Transfer-Encoding: base64\n\nUERG"


# --- the body ---


@pytest.mark.parametrize(
    ("text", "body", "attached", "not_carried"),
    [
        ("Subject: x\n\nhello", Body("text", "hello"), [], ()),
        ("no header at all\nreally", Body("text", "no header at all\r\nreally"), [], ()),
        ("Content-Type: text\n\nx", Body("text", "x"), [], ()),
        ("Content-Type: text/html\n\n<p>", Body("html", "<p>"), [], ()),
        ("Content-Type: text/plain; name=log.txt\n\nx", Body("text", "x"), [], ()),
        ("Content-Type: text/plain\nContent-Disposition: inline; filename=a\n\nx", Body("text", "x"), [], ()),
        ("Content-Disposition: attachment; filename=a.txt\n\nx", Body("text", ""), ["a.txt"], ()),
        ("Content-Type: application/pdf\n\nx", Body("text", ""), ["attachment-1.pdf"], ()),
        ("", Body("text", ""), [], ()),
        (multipart("mixed", TEXT, PDF), Body("text", "text"), ["x.pdf"], ()),
        (multipart("alternative", TEXT, HTML), Body("html", "<p>html</p>"), [], ("text alternative",)),
        (multipart("alternative", TEXT, "Content-Type: text/html\n\n \n"), Body("text", "text"), [], ()),
        (multipart("alternative", "\n\n \n", HTML), Body("html", "<p>html</p>"), [], ()),
        (multipart("mixed", TEXT, HTML), Body("html", "<p>html</p>"), ["ATT00001.txt"], ()),
        (multipart("mixed", HTML, TEXT, HTML), Body("html", "<p>html</p>"), ["ATT00001.txt", "ATT00002.htm"], ()),
        (multipart("mixed", TEXT, "\nmore\n", TEXT), Body("text", "text\r\n\r\nmore\r\n\r\ntext"), [], ()),
        (
            multipart("mixed", nested("alternative", TEXT, HTML), "\nfooter"),
            Body("html", "<p>html</p>"),
            ["ATT00001.txt"],
            ("text alternative",),
        ),
        (
            multipart("alternative", TEXT, nested("related", HTML, PDF)),
            Body("html", "<p>html</p>"),
            ["x.pdf"],
            ("text alternative",),
        ),
        (
            multipart("alternative", nested("mixed", TEXT, PDF), HTML),
            Body("html", "<p>html</p>"),
            ["x.pdf"],
            ("text alternative",),
        ),
        (  # Apple Mail: what stands beside the HTML inside of one alternative is no alternative to it
            multipart("alternative", TEXT, nested("mixed", HTML, PDF, "\nfooter", HTML)),
            Body("html", "<p>html</p>"),
            ["x.pdf", "ATT00001.txt", "ATT00002.htm"],
            ("text alternative",),
        ),
        (
            multipart("alternative", TEXT, HTML.replace("html\n", "html; name=a.htm\n", 1)),
            Body("html", "<p>html</p>"),
            [],
            ("text alternative",),
        ),
        (
            multipart("related", HTML.replace("html\n", "html; name=a.htm\n", 1), PDF, NAMED_HTML),
            Body("html", "<p>html</p>"),
            ["x.pdf", "b.htm"],
            (),
        ),
        (
            multipart("mixed", TEXT + "\n", "Content-Type: text/plain; name=a.txt\n\nfile"),
            Body("text", "text\r\n"),
            ["a.txt"],
            (),
        ),
        (
            multipart("mixed", HTML, "Content-Type: text/plain\nContent-Disposition: attachment\n\nx"),
            Body("html", "<p>html</p>"),
            ["attachment-1.txt"],
            (),
        ),
        (
            multipart("alternative", TEXT, HTML, "Content-Type: text/calendar; method=REQUEST\n\nBEGIN:VCALENDAR"),
            Body("html", "<p>html</p>"),
            ["attachment-1.ics"],
            ("text alternative", "calendar invitation"),
        ),
        (
            multipart("signed", TEXT, "Content-Type: application/pkcs7-signature\n\nx"),
            Body("text", "text"),
            ["smime.p7s"],
            ("signature",),
        ),
        (
            multipart("encrypted", "Content-Type: application/pgp-encrypted\n\nx", "Content-Type: a/octets\n\nx"),
            Body("text", ""),
            ["attachment-1.asc", "attachment-2.bin"],
            ("encryption",),
        ),
        ("Content-Type: application/pkcs7-mime\n\nx", Body("text", ""), ["smime.p7m"], ("encryption",)),
        (
            "Content-Type: application/pkcs7-mime; smime-type=signed-data\n\nx",
            Body("text", ""),
            ["smime.p7m"],
            ("signature",),
        ),
        ("Content-Type: application/pkcs7-mime; smime-type=certs-only\n\nx", Body("text", ""), ["smime.p7m"], ()),
        (
            multipart("report", TEXT, "Content-Type: message/delivery-status\n\n", "Content-Type: text/x-headers\n\n"),
            Body("text", "text"),
            ["attachment-1.txt", "attachment-2.txt"],
            ("delivery report",),
        ),
    ],
)  # fmt: skip
def test_body_rules(text: str, body: Body, attached: list[str], not_carried: tuple[str, ...]) -> None:
    message = read(text)
    assert message.body == body
    assert names(message) == attached
    assert message.not_carried == not_carried


@pytest.mark.parametrize(
    ("header", "octets", "body"),
    [
        ("text/plain; charset=iso-8859-1", b"caf\xe9", "café"),
        ("text/plain; charset=iso-8859-1 (Latin)", b"caf\xe9", "café"),
        ('text/plain; charset="shift_jis"', "日本".encode("shift_jis"), "日本"),
        ("text/plain", "café".encode(), "café"),
        ("text/plain", b"caf\xe9", "café"),
        ("text/plain; charset=utf-8", b"a\0b", "ab"),
        ("text/html", b'<meta charset="windows-1251">\xcf', '<meta charset="windows-1251">П'),
        ("text/html", b'<meta charset="windows-1251">\xc3\xa9', '<meta charset="windows-1251">é'),
        ("text/html", b"<meta charset=utf-16>x", "<meta charset=utf-16>x"),
        ("text/html; charset=utf-8", b'<meta charset="windows-1251">\xc3\xa9', '<meta charset="windows-1251">é'),
    ],
)
def test_charsets_of_bodies(header: str, octets: bytes, body: str) -> None:
    assert read(f"Content-Type: {header}\n\n".encode() + octets).body.content == body


def test_each_text_part_has_its_own_charset() -> None:
    octets = (
        b"Content-Type: multipart/mixed; boundary=b\n\n"
        b"--b\nContent-Type: text/plain; charset=koi8-r\n\n" + "Привет".encode("koi8-r") + b"\n"
        b"--b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\nw6k=\n--b--"
    )
    assert read(octets).body.content == "Привет\r\n\r\né"


@pytest.mark.parametrize(
    ("header", "octets", "name", "content"),
    [
        ("text/plain; charset=iso-8859-1", b"caf\xe9", "ATT00001.txt", "café".encode()),
        ("text/plain; charset=iso-2022-jp", b"\x1b$B4A\x1b(B", "ATT00001.txt", "漢".encode()),
        ("text/plain; charset=utf-8", "\ufeffcafé".encode(), "ATT00001.txt", "\ufeffcafé".encode()),
        ("text/plain; charset=us-ascii", b"cafe\0", "ATT00001.txt", b"cafe"),
        ("text/plain; charset=utf-16", "\ufeffcafe".encode("utf-16-le"), "ATT00001.txt", b"cafe"),
        ("text/plain; charset=utf-8", b"caf\xe9", "ATT00001.txt", b"caf\xe9"),
        ("text/html; charset=iso-8859-1", b"<p>caf\xe9", "ATT00001.htm", "\ufeff<p>café".encode()),
        ("text/html", b"<meta charset=koi8-r>\xd1", "ATT00001.htm", "\ufeff<meta charset=koi8-r>я".encode()),
        ("text/html; charset=utf-8", "<p>é".encode(), "ATT00001.htm", "<p>é".encode()),
    ],
)
def test_a_text_beside_the_body_is_a_file_that_needs_no_charset(
    header: str, octets: bytes, name: str, content: bytes
) -> None:
    """In UTF-8, but for what is not in the charset it names: that is left as it came."""
    message = read(multipart("mixed", HTML, f"Content-Type: {header}\n\n@").encode().replace(b"@", octets))
    assert message.attachments == (Attachment(name, header.partition(";")[0], content),)


@pytest.mark.parametrize(
    ("html", "body"),
    [
        ("<html><head><title>x</title></head><body>\n&nbsp;<br></body></html>", Body("text", "text")),
        ("<style>p {color: red}</style><!-- a > b --><p>\u200b</p>", Body("text", "text")),
        ("<!-- no end <p>x", Body("text", "text")),
        ("<p>x</p>", Body("html", "<p>x</p>")),
        ("<script>var a = 1 < 2</script>x", Body("html", "<script>var a = 1 < 2</script>x")),
        ("<IMG src=x>", Body("html", "<IMG src=x>")),
        ("1 < 2", Body("html", "1 < 2")),
    ],
)
def test_html_that_shows_nothing_does_not_hide_the_text(html: str, body: Body) -> None:
    message = read(multipart("alternative", TEXT, f"Content-Type: text/html\n\n{html}"))
    assert message.body == body
    assert message.attachments == ()


def test_html_that_shows_nothing_is_the_body_where_there_is_no_text() -> None:
    assert read("Content-Type: text/html\n\n<p></p>").body == Body("html", "<p></p>")


# --- attachments ---


@pytest.mark.parametrize(
    ("encoding", "octets", "content"),
    [
        ("base64", b"AAEC/w==", b"\0\1\2\xff"),
        ("Base64 (x)", b" A A\r\nEC\t/w==\r\n\r\n", b"\0\1\2\xff"),
        ("base64", b"AAEC/w", b"\0\1\2\xff"),
        ("base64", b"AAEC/w=", b"\0\1\2\xff"),
        ("base64", b"AA==AQ==\r\nAg==", b"\0\1\2"),
        ("base64", b"", b""),
        ("base64", b"====", b""),
        ("quoted-printable", b"a=3Db=\r\nc=3d =ZZ \r\n", b"a=bc= =ZZ \r\n"),
        ("quoted-printable", b"a=0=\r\n9b=\r\n=0=\r\ng==\r\n", b"a\tb=0g=\r\n"),
        ("quoted-printable", b"a= \t\r\nb=\rc=\r\r\nd", b"abcd"),
        ("7bit", b"a\r\n", b"a\r\n"),
        ("8BIT", b"\xff\0", b"\xff\0"),
        ("binary", b"\n\r\0", b"\n\r\0"),
        ("", b"x", b"x"),
        ("x-uuencode", b"begin 644 x\r\n#0V%T\r\n`\r\nend\r\n", b"Cat"),
        ("uuencode", b"noise\r\nbegin 0755 a b\r\n#0V%TX\r\n \r\nend\r\nnoise", b"Cat"),
    ],
)
def test_transfer_encodings(encoding: str, octets: bytes, content: bytes) -> None:
    top = f"Content-Type: application/x-a\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
    message = parse(top + octets, strict_attachments=True)
    assert [attachment.content for attachment in message.attachments] == [content]
    assert message.warnings == ()


@pytest.mark.parametrize(
    ("encoding", "octets"),
    [
        ("base64", b"AAE*"),
        ("base64", b"AAECA"),
        ("base64", b"\xffAAE"),
        ("x-uuencode", b"no begin"),
        ("x-uuencode", b"begin 644 x\r\nM\x7f\x7f\r\nend"),
        ("rot13", b"x"),
    ],
)
def test_what_cannot_be_decoded(encoding: str, octets: bytes) -> None:
    content = f"Content-Type: application/pdf\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + octets
    message = parse(content, strict_attachments=False)
    assert message.attachments[0].content == octets
    assert message.warnings == ("part 1 (application/pdf) cannot be decoded: attached as it came",)
    with pytest.raises(MessageError, match=r"^the attachment in part 1 cannot be decoded$"):
        parse(content, strict_attachments=True)


def test_a_text_body_that_cannot_be_decoded_is_delivered_even_when_strict() -> None:
    message = read("Content-Transfer-Encoding: base64\n\nnot base64!", strict=True)
    assert message.body == Body("text", "not base64!")
    assert message.warnings == ("part 1 (text/plain) cannot be decoded: taken as it stands",)


def test_a_text_body_with_something_behind_its_base64() -> None:
    encoded = base64.encodebytes("Grüße aus dem Keller. ".encode() * 4).decode()
    for behind in ("\n-- \nfooter\n", "--other--", "_______"):
        message = read(f"Content-Type: text/plain; charset=utf-8\n{BASE64}\n\n{encoded}{behind}")
        text = "Grüße aus dem Keller. " * 4 + "\r\n" + behind.replace("\n", "\r\n")
        assert message.body == Body("text", text)
        assert message.warnings == ("part 1 (text/plain) cannot be decoded to its end",)


def test_a_text_body_that_is_cut_off_keeps_what_came() -> None:
    whole = base64.b64encode("Grüße aus dem Keller".encode()).decode()
    for length, text in ((25, "Grüße aus dem Ke"), (26, "Grüße aus dem Kel"), (27, "Grüße aus dem Kell")):
        message = read(f"Content-Type: text/plain; charset=utf-8\n{BASE64}\n\n{whole[:length]}\n")
        assert message.body == Body("text", text), length
        assert message.warnings == (("part 1 (text/plain) cannot be decoded to its end",) if length == 25 else ())


RFC822 = "Content-Type: message/rfc822"
BASE64 = "Content-Transfer-Encoding: base64"
INNER = "Content-Type: multipart/mixed; boundary=z\n\n--z\n\nx\n--z--"


@pytest.mark.parametrize(
    ("part", "name", "media_type", "content"),
    [
        ("Content-Type: image/png\n\n", "attachment-1.png", "image/png", b""),
        ("Content-Type: text/csv\n\na;b", "attachment-1.csv", "text/csv", b"a;b"),
        ("Content-Type: a/b\nContent-Disposition: attachment; filename=c.d\n\nx", "c.d", "a/b", b"x"),
        ("Content-Type: a/b; name=n\nContent-Disposition: inline; filename=../f\n\nx", "f", "a/b", b"x"),
        ("Content-Type: junk; name=q.pdf\n\nx", "q.pdf", "application/octet-stream", b"x"),
        ("Content-Disposition: attachment; filename*=utf-8''%C3%A9.txt\n\nx", "é.txt", "text/plain", b"x"),
        ("Content-Disposition: filename=z.txt\n\nx", "z.txt", "text/plain", b"x"),
        ("Content-Disposition: odd\n\nx", "attachment-1.txt", "text/plain", b"x"),
        (f"{RFC822}\n\nSubject: a/b\n\nx", "a_b.eml", "message/rfc822", b"Subject: a/b\r\n\r\nx"),
        (f"{RFC822}\n{BASE64}\n\nU3ViamVjdDogcQ==", "q.eml", "message/rfc822", b"Subject: q"),
        (f"{RFC822}\nContent-Transfer-Encoding: odd\n\nTo: x", "message.eml", "message/rfc822", b"To: x"),
        (f"{RFC822}; name=f.eml\n\nTo: x", "f.eml", "message/rfc822", b"To: x"),
        (f"{RFC822}\n\n{INNER}", "message.eml", "message/rfc822", INNER.replace("\n", "\r\n").encode()),
        ("Content-Type: message/partial; id=1\n\nTo: x", "attachment-1.txt", "message/partial", b"To: x"),
        ("Content-Type: message/external-body\n\nTo: x", "attachment-1.txt", "message/external-body", b"To: x"),
    ],
)
def test_every_kind_of_part_arrives(part: str, name: str, media_type: str, content: bytes) -> None:
    message = read(multipart("mixed", TEXT, part), strict=True)
    assert message.attachments == (Attachment(name, media_type, content),)
    assert message.body.content == "text"


def test_digests_hold_messages() -> None:
    message = read(multipart("digest", "\nSubject: one\n\n1", "\nSubject: two\n\n2"))
    assert names(message) == ["one.eml", "two.eml"]
    assert message.attachments[1].content == b"Subject: two\r\n\r\n2"


def test_a_single_forwarded_message() -> None:
    assert names(read("Content-Type: message/rfc822\n\nSubject: x\n\ny")) == ["x.eml"]


@pytest.mark.parametrize(
    ("subtype", "html", "header", "inline"),
    [
        ("mixed", '<img src="cid:a%2Bb@x">', "Content-ID: <a+b@x>", True),
        ("mixed", '<img src="CID:a+b@x">', "Content-ID: <a+b@x>", True),
        ("mixed", "<i style='background:url(cid:a&amp;b)'>", "Content-ID: <a&b>", True),
        ("mixed", "<img src=cid:a>", "Content-ID: a\nContent-Disposition: attachment", True),
        ("mixed", "<p>", "Content-ID: <a>", False),
        ("mixed", "<p>", "Content-ID: <a>\nContent-Disposition: inline", True),
        ("related", "<p>", "Content-ID: <a>", True),
        ("related", "<p>", "Content-ID: <a>\nContent-Disposition: attachment", False),
        ("related", "<p>", "X-A: b\nContent-Disposition: inline", False),
        ("related", "", "Content-ID: <a>\nContent-Disposition: inline", False),
    ],
)
def test_inline(subtype: str, html: str, header: str, inline: bool) -> None:
    image = f"Content-Type: image/png\n{header}\n\nx"
    message = read(multipart(subtype, f"Content-Type: text/html\n\n{html}", image))
    assert message.attachments[0].inline is inline
    assert bool(message.attachments[0].content_id) is ("Content-ID" in header)
    assert "<" not in message.attachments[0].content_id


def test_a_file_that_nothing_shows_is_not_hidden() -> None:
    pdf = f"Content-ID: <a>\nContent-Disposition: inline; filename=x.pdf\n{PDF}"
    assert not read(multipart("mixed", HTML, pdf)).attachments[0].inline
    assert read(multipart("mixed", "Content-Type: text/html\n\n<embed src=cid:a>", pdf)).attachments[0].inline


# --- broken structure ---


@pytest.mark.parametrize(
    ("text", "body", "attached"),
    [
        ("Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b\n" + PDF, "x", ["x.pdf"]),  # no end
        ("Content-Type: multipart/mixed\n\n--q\n" + TEXT + "\n--q\n" + PDF + "\n--q--\n", "text", ["x.pdf"]),
        ("Content-Type: multipart/mixed; boundary=b\n\n--q\n" + TEXT + "\n--q\n" + PDF + "\n--q--", "text", ["x.pdf"]),
        ("Content-Type: multipart/mixed; boundary=b\n\n------=_N\n" + TEXT + "\n------=_N\n" + PDF, "text", ["x.pdf"]),
        ("Content-Type: multipart/mixed; boundary=b\n\njust text\n", "just text\r\n", []),
        ("Content-Type: multipart/mixed\n\n", "", []),
        ("Content-Type: multipart/mixed; boundary=b\n\npre\n--b \t\n\nx\n--b--\nepi", "x", []),
        ("Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx--b\n--bb\n y\n--b--", "x--b\r\n--bb\r\n y", []),
        ("Content-Type: multipart/mixed; boundary=b\n\n--b\nno header\n--b--", "no header", []),
        ("Content-Type: multipart/mixed; boundary=b\n\n--b--\n", "--b--\r\n", []),
        ("Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: base64\n\n--b\n\nx\n--b--", "x", []),
        (multipart("mixed", nested("mixed", TEXT).replace("--n--", ""), PDF), "text", ["x.pdf"]),
        (multipart("mixed", nested("mixed", TEXT, PDF).replace("--n", "--b"), PDF), "text", ["x.pdf", "x.pdf"]),
    ],
)  # fmt: skip
def test_broken_structure(text: str, body: str, attached: list[str]) -> None:
    message = read(text)
    assert message.body.content.rstrip() == body.rstrip()
    assert names(message) == attached
    assert all(attachment.content == b"PDF" for attachment in message.attachments)


def test_faults_are_named() -> None:
    assert read("Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx").warnings == ("a multipart has no end",)
    assert "boundary" in read("Content-Type: multipart/mixed\n\n--q\nContent-Type: a/b\n\nx\n--q--").warnings[0]
    assert "no part" in read("Content-Type: multipart/mixed\n\nx").warnings[0]
    assert "colon" in read("Subject: a\nb\nTo: c\n\nx").warnings[0]
    for name in ("Subject", "Message-ID", "Date", "Content-Type", "MIME-Version"):
        warning = f"more than one {name.lower()} field: the first is taken"
        assert read(f"{name}: a\n{name}: b\n{name}: c\n\nx").warnings == (warning,), name
    assert read(b"Content-Type: text/plain; charset=utf-8\n\ncaf\xe9").warnings != ()
    assert read("From: Scanner\n\nx").warnings == ("the From field holds no address",)
    assert read("From: \n\nx").warnings == ()
    assert read(multipart("mixed", TEXT, PDF)).warnings == ()


def test_bare_lf_and_bare_cr_structure() -> None:
    text = multipart("mixed", TEXT, PDF).encode()
    for eol in (b"\n", b"\r"):
        message = parse(text.replace(b"\n", eol), strict_attachments=True)
        assert (message.body.content, message.attachments[0].content) == ("text", b"PDF")


def test_a_depth_bomb_keeps_all_its_octets() -> None:
    levels = 10_000
    bomb = "".join(f"Content-Type: multipart/mixed; boundary=b{n}x\n\n--b{n}x\n" for n in range(levels))
    message = read(bomb + "Content-Type: application/pdf\n\ninnermost")
    assert names(message) == ["message-part.eml"]
    assert message.attachments[0].content.endswith(b"innermost")
    assert "nested" in "".join(message.warnings)


def test_a_hundred_thousand_parts_and_more() -> None:
    part = b"--b\r\nContent-Disposition: attachment; filename=x\r\n\r\nx\r\n"
    top = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    message = parse(top + part * 100_000 + b"--b--", strict_attachments=True)
    assert len(message.attachments) == 100_000
    message = parse(top + part * 100_005 + b"--b--", strict_attachments=True)
    assert len(message.attachments) == 100_001
    assert message.attachments[-1].content.count(b"filename=x") == 5


# --- the header ---


def test_header_fields() -> None:
    message = read((DATA / "header.eml").read_bytes().replace(b"\r\n", b"\n"))
    assert message.subject == "Grüße aus Köln, zweite Zeile"
    assert [(a.name, a.addr) for a in message.from_] == [
        ("Scanner, 2. Stock", "scan@example.com"),
        ("", "b@example.com"),
    ]
    assert message.sender is not None
    assert message.sender.addr == "office@example.com"
    assert [a.addr for a in message.reply_to] == ["help@example.com", "desk@example.com"]
    assert [a.addr for a in message.to] == ["a@example.com", "c@example.com"]
    assert [a.addr for a in message.cc] == ["d@example.com"]
    assert message.has_to_or_cc
    assert message.importance == "high"
    assert message.read_receipt
    assert message.delivery_receipt
    assert message.message_id == "<1@example.com>"
    assert message.in_reply_to == "<0@example.com>"
    assert message.references == "<a@example.com> <0@example.com>"
    assert message.x_headers == (("X-Mailer", "Gerät 5"), ("X-Job", "1"), ("x-job", "2"))
    names = ("Received", "Date", "Content-Language", "List-Id", "X-MS-Exchange-Foo", "Auto-Submitted")
    assert message.other_headers == names
    assert "secret" not in repr(message)


@pytest.mark.parametrize(
    ("header", "importance"),
    [
        ("Importance: High", "high"),
        ("Importance: low\nX-Priority: 1", "low"),
        ("Importance: odd\nX-Priority: 2 (High)", "high"),
        ("X-Priority: 3", "normal"),
        ("X-Priority: 4", "low"),
        ("X-Priority: 5(Lowest)", "low"),
        ("X-MSMail-Priority: High", "high"),
        ("Priority: urgent", "high"),
        ("Priority: non-urgent", "low"),
        ('Importance: "high"', "high"),
        ("X-Priority: Highest", "high"),
        ("X-Priority: 1;", "high"),
        ("Subject: x", None),
        ("X-Priority:", None),
    ],
)
def test_importance(header: str, importance: str | None) -> None:
    message = read(header + "\n\nx")
    assert message.importance == importance
    assert message.x_headers == ()
    assert message.other_headers == ()


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("(a) <1@x>\n\t<2@x> (b)", "<1@x> <2@x>"),
        ("Your message of Monday <1@x>", "<1@x>"),
        ("<1@x><2@x>", "<1@x> <2@x>"),
        ("1@x", "1@x"),
        ("<a<b>@x>", "<a<b>@x>"),
    ],
)
def test_message_ids(written: str, read_as: str) -> None:
    message = read(f"Message-ID: {written}\nIn-Reply-To: {written}\nReferences: {written}\n\nx")
    assert (message.message_id, message.in_reply_to, message.references) == (read_as, read_as, read_as)


@pytest.mark.parametrize(
    ("charset", "subject", "read_as"),
    [
        ("windows-1251", "Привет".encode("cp1251"), "Привет"),
        ("shift_jis", "テスト件名".encode("shift_jis"), "テスト件名"),
        ("windows-1251", "Привет".encode(), "Привет"),
        ("windows-1251", b"=?utf-8?Q?=C3=A9?=", "é"),
        ("utf-8", b"caf\xe9", "café"),
        ("utf-16", b"caf\xe9", "café"),
        ("us-ascii", b"caf\xe9", "café"),
        ("x-unknown", b"caf\xe9", "café"),
    ],
)
def test_a_raw_header_is_in_the_charset_of_the_text(charset: str, subject: bytes, read_as: str) -> None:
    header = b"Subject: %s\nFrom: %s <a@b>\n" % (subject, subject)
    alone = read(header + f"Content-Type: text/plain; charset={charset}\n\nx".encode())
    assert (alone.subject, alone.from_) == (read_as, (Address(read_as, "a@b"),))
    part = b'Content-Type: a/b; name="%s"\n\nx' % subject
    text = f"Content-Type: text/plain; charset={charset}\n\nx"
    several = read(header + multipart("mixed", text, "@").encode().replace(b"@", part))
    assert (several.subject, names(several)) == (read_as, [read_as])


def test_comments_in_the_fields_of_mime() -> None:
    message = read(
        'Content-Type: (a) multipart/mixed (b); boundary = (c) "q" (d)\n\n--q\n'
        "Content-Type: text/plain (e); charset=iso-8859-15 (Latin 9)\n"
        "Content-Transfer-Encoding: (f) quoted-printable (g)\n\n=A4\n--q\n"
        'Content-Type: application/pdf; name (h) = "a.pdf"\nContent-Disposition: (i) attachment (j)\n\nx\n--q--\n'
    )
    assert message.body == Body("text", "€")
    assert [(a.name, a.media_type) for a in message.attachments] == [("a.pdf", "application/pdf")]


@pytest.mark.parametrize("written", ["'q'", '"\\q"', '"q "'])
def test_a_boundary_that_is_written_oddly(written: str) -> None:
    message = read(f"Content-Type: multipart/mixed; boundary={written}\n\n--q\n\none\n--q--\n")
    assert message.body.content == "one"


@pytest.mark.parametrize(
    ("header", "read_receipt", "delivery_receipt"),
    [
        ("Disposition-Notification-To: a@b", True, False),
        ("X-Confirm-Reading-To: a@b", True, False),
        ("Return-Receipt-To: a@b", False, True),
        ("Disposition-Notification-To:", False, False),
    ],
)
def test_receipts(header: str, read_receipt: bool, delivery_receipt: bool) -> None:
    message = read(header + "\n\nx")
    assert (message.read_receipt, message.delivery_receipt) == (read_receipt, delivery_receipt)


def test_odd_headers() -> None:
    assert read("x: y\n\n").subject is None
    assert read("Subject:\n\n").subject == ""
    assert read(b"Subject: caf\xe9\n\n").subject == "café"
    assert [a.addr for a in read("From: nobody\nFrom: a@b\n\n").from_] == ["a@b"]
    assert read("To:\n\n").has_to_or_cc
    assert not read("Bcc: a@b\n\n").has_to_or_cc
    assert read("Bcc: a@b\nBcc: c@d\n\n").other_headers == ()
    assert read("Reply-To: nobody\n\n").other_headers == ("Reply-To",)
    assert read("Reply-To:\n\n").other_headers == ()
    assert read("Importance: odd\nPriority: 1\n\n").other_headers == ("Importance", "Priority")
    assert read("Foo: 1\nfoo: 2\nBar: 3\n\n").other_headers == ("Foo", "Bar")


# --- properties ---


@given(st.binary())
def test_any_octets_make_a_message(content: bytes) -> None:
    message = parse(content, strict_attachments=False)
    message.body.content.encode()


PIECES = [
    *(b"Content-Type: ", b"multipart/mixed; boundary=b", b"text/html", b"message/rfc822", b"Subject: ", b"From "),
    *(b"Content-Transfer-Encoding: base64", b"Content-Disposition: attachment", b"filename*0*=utf-8''%C3", b"QUJD"),
    *(b"\r\n", b"\n", b"--b", b"--", b"=", b"\0", b"\xff", b"=?utf-8?B?", b"?=", b'"', b";", b" ", b"a@b", b"<", b"("),
]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join))
def test_any_debris_of_mail_makes_a_message(content: bytes) -> None:
    message = parse(content, strict_attachments=False)
    (str(message.subject) + message.body.content + "".join(names(message))).encode()
    assert all(names(message))


LEAF = st.tuples(
    st.binary(max_size=300),
    st.sampled_from(["application/pdf", "image/png", "text/csv", "text/plain", "text/html"]),
    st.sampled_from(["base64", "quoted-printable"]),
    st.none() | st.text(st.characters(exclude_categories=["Cc", "Cs", "Z"], exclude_characters="/\\."), min_size=1),
)
TREE = st.recursive(
    LEAF,
    lambda inner: st.tuples(
        st.sampled_from(["mixed", "related", "alternative", "parallel"]), st.lists(inner, min_size=1)
    ),
    max_leaves=12,
)


def build(tree: tuple[object, ...], attached: list[tuple[bytes, str, str | None]]) -> email.message.EmailMessage:
    message = email.message.EmailMessage(email.policy.SMTP)
    if len(tree) == 4:
        content, media_type, encoding, name = tree
        assert isinstance(content, bytes)
        assert isinstance(media_type, str)
        message.set_content(content, *media_type.split("/"), cte=str(encoding), disposition="attachment", filename=name)
        attached.append((content, media_type, name if name is None else str(name)))
        return message
    subtype, children = tree
    assert isinstance(children, list)
    message["Content-Type"] = f"multipart/{subtype}"
    for child in children:
        message.attach(build(child, attached))
    return message


@given(TREE)
def test_attachments_of_any_tree_arrive_byte_for_byte(tree: tuple[object, ...]) -> None:
    attached: list[tuple[bytes, str, str | None]] = []
    content = build(tree, attached).as_bytes()
    message = parse(content, strict_attachments=True)
    found = [(a.content, a.media_type) for a in message.attachments]
    assert found == [(octets, media_type) for octets, media_type, _ in attached]
    for attachment, (_, _, name) in zip(message.attachments, attached, strict=True):
        assert attachment.name == name or (name is None and attachment.name)


@given(st.binary(max_size=2000), st.integers(1, 76), st.booleans())
def test_base64_cut_anywhere(content: bytes, width: int, padded: bool) -> None:
    encoded = base64.b64encode(content)
    encoded = encoded if padded else encoded.rstrip(b"=")
    lines = b"\r\n".join(encoded[n : n + width] for n in range(0, len(encoded), width))
    top = b"Content-Type: a/b\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    assert parse(top + lines, strict_attachments=True).attachments[0].content == content


def test_messages_of_the_standard_library() -> None:
    try:
        from test import test_email
    except ImportError:
        pytest.skip("this Python comes without test.test_email")
    found = sorted((Path(str(test_email.__file__)).parent / "data").glob("msg_*.txt"))
    if not found:
        pytest.skip("test.test_email comes without its data directory")
    for path in found:
        content = path.read_bytes()
        message = parse(content, strict_attachments=False)
        if "a multipart does not name its own boundary: taken from the text" in message.warnings:
            assert message.body.content.strip(), path.name  # the library sees one leaf there, and we see the parts
            continue
        arrived = [message.body.content.encode("latin-1", "replace"), *(a.content for a in message.attachments)]
        for octets in library_leaves(email.message_from_bytes(content)):
            assert any(octets in part for part in arrived) or "text alternative" in message.not_carried, path.name


def library_leaves(entity: email.message.Message) -> Iterator[bytes]:
    """The leaves that the standard library sees, decoded, without blanks around; messages in messages as one."""
    if entity.get_content_type() == "message/rfc822" or not entity.is_multipart():
        octets = entity.get_payload(decode=True)
        yield octets.strip() if isinstance(octets, bytes) else b""
        return
    for part in entity.get_payload():
        assert isinstance(part, email.message.Message)
        yield from library_leaves(part)
