# SPDX-License-Identifier: MIT
"""Random messages with what is in them: any tree, charset, encoding and name; and ways to break them.

Everything is drawn from one random.Random, which a seed or hypothesis may stand behind. Shares no code with relay/.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from random import Random
from urllib.parse import quote

MAX_DEPTH = 10
MAX_LEAVES = 24

TEXTS = (  # with charsets that can say them
    ("plain words, nothing else", ("us-ascii", "utf-8", "iso-8859-1", "utf-16", "iso-2022-jp", "windows-1252")),
    ("Grüße aus Köln, schöne Füße", ("utf-8", "iso-8859-1", "iso-8859-15", "windows-1252", "utf-16le", "cp850")),
    ("5 € für „Anführung“", ("utf-8", "windows-1252", "utf-16")),
    ("Łódź, zażółć gęślą jaźń", ("utf-8", "iso-8859-2", "windows-1250")),
    ("Привет, как дела?", ("utf-8", "koi8-r", "windows-1251", "iso-8859-5", "koi8-u")),
    ("Καλημέρα κόσμε", ("utf-8", "iso-8859-7", "windows-1253")),
    ("İstanbul'da ışık", ("utf-8", "iso-8859-9", "windows-1254")),
    ("שלום עולם", ("utf-8", "iso-8859-8", "windows-1255")),
    ("日本語のメール", ("utf-8", "shift_jis", "euc-jp", "iso-2022-jp")),
    ("简体中文邮件", ("utf-8", "gb2312", "gbk", "gb18030")),
    ("繁體中文郵件", ("utf-8", "big5")),
    ("한국어 편지", ("utf-8", "euc-kr")),
    ("สวัสดี", ("utf-8", "tis-620", "iso-8859-11")),
    ("emoji 😀🎉 and ZWJ 👩‍👩‍👧", ("utf-8", "utf-16be")),
)
NAMES = (
    *("a.pdf", "scan 1.tif", "no-extension", "x" * 120 + ".txt", "semi;colon.txt", 'quo"te.txt', "Übersicht.xlsx"),
    *("отчёт.docx", "請求書.pdf", "a=b.bin", "très long nom de fichier " * 4 + ".csv", "100%.txt", "it's.txt", ""),
)
BINARY_KINDS = ("application/pdf", "image/png", "application/octet-stream", "audio/wav", "application/x-odd+thing")
CONTAINERS = ("mixed", "alternative", "related", "parallel", "x-unknown", "signed", "report")


@dataclass(frozen=True)
class Leaf:
    """What one part holds. text: None for what is no text; name: "" for none."""

    kind: str
    content: bytes
    text: str | None
    name: str
    content_id: str
    disposition: str
    containers: tuple[tuple[str, int], ...]  # subtype and number of each, outermost first


@dataclass
class Tree:
    """A message and its leaves in order."""

    octets: bytes
    leaves: list[Leaf] = field(default_factory=list)


class _Builder:
    def __init__(self, random: Random) -> None:
        self._random = random
        self._numbers = 0
        self.leaves: list[Leaf] = []

    def entity(self, depth: int, containers: tuple[tuple[str, int], ...]) -> bytes:
        """Header fields, blank line, body."""
        random = self._random
        deep = depth < MAX_DEPTH and len(self.leaves) < MAX_LEAVES
        if deep and random.random() < (0.9 if not containers else 0.45):
            return self._container(depth, containers)
        kind = random.choice(("text", "text", "html", "file text", "binary", "binary", "message"))
        if kind == "message":
            return self._message(containers)
        return self._text(kind, containers) if kind != "binary" else self._binary(containers)

    def _container(self, depth: int, containers: tuple[tuple[str, int], ...]) -> bytes:
        random = self._random
        self._numbers += 1
        subtype = random.choice(CONTAINERS)
        boundary = random.choice((f"b{self._numbers}", f"=_{self._numbers} x{'-' * 20}:?", f"----b_{self._numbers}"))
        inner = (*containers, (subtype, self._numbers))
        parts = [self.entity(depth + 1, inner) for _ in range(random.randint(1, 4))]
        delimiter = b"--" + boundary.encode()
        preamble = random.choice((b"", b"This is a multi-part message in MIME format.\r\n\r\n"))
        body = b"".join(delimiter + b"\r\n" + part + b"\r\n" for part in parts) + delimiter + b"--\r\n"
        parameters = random.choice((f'; boundary="{boundary}"', f';\r\n\tboundary="{boundary}"'))
        return f"Content-Type: multipart/{subtype}{parameters}\r\n\r\n".encode() + preamble + body

    def _text(self, kind: str, containers: tuple[tuple[str, int], ...]) -> bytes:
        random = self._random
        words, charsets = random.choice(TEXTS)
        charset = random.choice(charsets)
        lines = [words] * random.randint(1, 6)
        text = "\r\n".join(lines) + random.choice(("", "\r\n", "\r\n\r\n"))
        media_type = {"text": "text/plain", "html": "text/html"}.get(kind) or random.choice(("text/csv", "text/x-log"))
        if kind == "html":
            text = f"<html><body><p>{text}</p></body></html>"
        content = text.encode(charset)
        narrow = not charset.startswith("utf-16")
        encodings = ["base64", "quoted-printable", *(["8bit", "binary", ""] if narrow else [])]
        if content.isascii() and narrow:
            encodings.append("7bit")
        disposition = "attachment" if kind == "file text" else random.choice(("", "", "inline", "attachment"))
        name = random.choice(NAMES) if disposition == "attachment" else ""
        if not disposition and kind != "file text" and not containers and random.random() < 0.2:
            charset = charset if not content.isascii() else "us-ascii"
        return self._leaf(
            media_type,
            content,
            text,
            name,
            "",
            disposition,
            containers,
            random.choice(encodings),
            f"; charset={charset}",
        )

    def _binary(self, containers: tuple[tuple[str, int], ...]) -> bytes:
        random = self._random
        content = random.randbytes(random.choice((0, 1, 2, 3, 56, 57, 58, 1000, 4000)))
        content_id = f"id{len(self.leaves)}@example.com" if random.random() < 0.3 else ""
        disposition = random.choice(("", "inline", "attachment", "attachment"))
        encoding = random.choice(("base64", "base64", "base64", "quoted-printable"))
        return self._leaf(
            random.choice(BINARY_KINDS), content, None, random.choice(NAMES), content_id, disposition, containers,
            encoding, "",
        )  # fmt: skip

    def _message(self, containers: tuple[tuple[str, int], ...]) -> bytes:
        inner = b"From: x@example.org\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
        if self._random.random() < 0.5:
            inner = b"Subject: two\r\nContent-Type: multipart/mixed; boundary=in\r\n\r\n--in\r\n\r\nx\r\n--in--\r\n"
        return self._leaf("message/rfc822", inner, None, "", "", "", containers, "", "")

    def _leaf(
        self, kind: str, content: bytes, text: str | None, name: str, content_id: str, disposition: str,
        containers: tuple[tuple[str, int], ...], encoding: str, parameters: str,
    ) -> bytes:  # fmt: skip
        self.leaves.append(Leaf(kind, content, text, name, content_id, disposition, containers))
        way = self._random.choice(("filename", "both", "name", "2231", "continued", "words"))
        by_type, by_disposition = _named(name, way) if name else ("", "")
        if by_disposition and not disposition:
            by_type, by_disposition = f"{parameters}{by_type or by_disposition.replace('filename', 'name')}", ""
        else:
            by_type = parameters + by_type
        fields = [f"Content-Type: {kind}{by_type}"]
        if disposition or by_disposition:
            fields.append(f"Content-Disposition: {disposition}{by_disposition}")
        if encoding:
            fields.append(f"Content-Transfer-Encoding: {self._random.choice((encoding, encoding.upper()))}")
        if content_id:
            fields.append(f"Content-ID: <{content_id}>")
        self._random.shuffle(fields)
        return "".join(f"{line}\r\n" for line in fields).encode() + b"\r\n" + _encoded(content, encoding)


def _encoded(content: bytes, encoding: str) -> bytes:
    if encoding == "base64":
        return base64.encodebytes(content).replace(b"\n", b"\r\n")
    if encoding == "quoted-printable":
        return b"=\r\n".join(binascii.b2a_qp(content[at : at + 20], istext=False) for at in range(0, len(content), 20))
    return content


def _named(name: str, way: str) -> tuple[str, str]:
    """Parameters for Content-Type and Content-Disposition that give this name."""
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if way == "words" or (not name.isascii() and way in ("filename", "both", "name")):
        words = base64.b64encode(name.encode()).decode()
        quoted = f'"=?utf-8?B?{words}?="'
    if way == "2231":
        return "", f"; filename*=utf-8''{quote(name, safe='')}"
    if way == "continued":
        encoded = [quote(character, safe="") for character in name]
        pieces = ["".join(encoded[at : at + 15]) for at in range(0, len(encoded), 15)]
        first, *others = pieces
        more = "".join(f";\r\n filename*{number}*={piece}" for number, piece in enumerate(others, 1))
        return "", f"; filename*0*=utf-8''{first}{more}"
    return (f"; name={quoted}" if way != "filename" else "", f"; filename={quoted}" if way != "name" else "")


def random_tree(random: Random) -> Tree:
    """A well-formed message to a@example.com and b@example.com."""
    builder = _Builder(random)
    entity = builder.entity(0, ())
    header = (
        b"From: =?utf-8?B?SsO8cmdlbg==?= <scanner@example.com>\r\nTo: A <a@example.com>\r\nCc: b@example.com\r\n"
        b"Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\nMIME-Version: 1.0\r\n"
    )
    return Tree(header + entity, builder.leaves)


def broken(octets: bytes, random: Random) -> bytes:
    """The message with one to three faults of the kinds that are met."""
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(octets) + 1)
        octets = random.choice(
            (
                lambda at=at, o=octets: o[:at],
                lambda at=at, o=octets: o[:at] + b"\0" + o[at:],
                lambda at=at, o=octets: o[:at] + b"\xff\xfe" + o[at:],
                lambda at=at, o=octets: o[:at] + b"\n" + o[at:],
                lambda at=at, o=octets: o[:at] + b"\r\n\r\n" + o[at:],
                lambda at=at, o=octets: o[:at] + o[at + 20 :],
                lambda o=octets: o.replace(b"boundary", b"boundry", 1),
                lambda o=octets: o.replace(b"--\r\n", b"\r\n", 1),
                lambda o=octets: o.replace(b"\r\n", b"\n"),
                lambda o=octets: o.replace(b"base64", b"base-64", 1),
                lambda o=octets: o.replace(b"charset=", b"charset=x-", 1),
                lambda o=octets: b"no header here\r\n" + o,
                lambda o=octets: b"Bcc: hidden@example.org\r\nTo: raw \xfc <a@example.com>\r\n" + o,
                lambda o=octets: o.replace(b"Subject:", b"Subject: " + b"long " * 500, 1),
            )
        )()
    return octets
