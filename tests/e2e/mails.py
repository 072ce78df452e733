# SPDX-License-Identifier: MIT
"""The mail that every client is asked to send: what shall arrive, and the same as a ready message."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from functools import cache

from tests.e2e.reading import Named, Reading


@dataclass(frozen=True)
class File:
    name: str
    media_type: str
    content: bytes = field(repr=False)
    content_id: str = ""  # given: an image inside the HTML


@dataclass(frozen=True)
class Mail:
    """id: names the test. The sender comes from the test; sender_name is shown beside it."""

    id: str
    subject: str = "A report"
    sender_name: str = ""
    to: tuple[Named, ...] = (("", "you@example.org"),)
    cc: tuple[Named, ...] = ()
    bcc: tuple[str, ...] = ()
    text: str = ""
    html: str = ""
    files: tuple[File, ...] = ()

    @property
    def recipients(self) -> list[str]:
        """The envelope's."""
        return [*(addr for _, addr in (*self.to, *self.cc)), *self.bcc]

    @property
    def is_ascii(self) -> bool:
        words = [self.subject, self.sender_name, self.text, self.html, *(file.name for file in self.files)]
        return all(word.isascii() for word in (*words, *(name for name, _ in (*self.to, *self.cc))))

    def message(self, sender: str) -> EmailMessage:
        """As the standard library makes it, Bcc header and all."""
        message = EmailMessage(policy.SMTP)
        message["From"] = _address((self.sender_name, sender))
        message["To"] = [_address(one) for one in self.to]
        if self.cc:
            message["Cc"] = [_address(one) for one in self.cc]
        if self.bcc:
            message["Bcc"] = ", ".join(self.bcc)
        message["Subject"] = self.subject
        message["Message-ID"] = f"<{self.id}@client.example>"
        message["X-Scanner"] = "ready 1"
        message["Reply-To"] = "answers@example.com"
        if self.text:
            message.set_content(self.text)
        if self.html and self.text:
            message.add_alternative(self.html, subtype="html")
        elif self.html:
            message.set_content(self.html, subtype="html")
        for file in self.files:
            _attach(message, file)
        return message

    def octets(self, sender: str) -> bytes:
        """The ready message in CR LF lines."""
        return self.message(sender).as_bytes()

    def check(self, sent: Reading, sender: str) -> None:
        """What a client made of this is what it was told to make. Clients may add a line end to a text."""
        assert sent.subject == self.subject
        assert sent.sender == (self.sender_name, sender)
        assert (sent.to, sent.cc, set(sent.bcc)) == (self.to, self.cc, set(self.bcc))
        assert sent.kind == ("html" if self.html else "text")
        assert sent.body.rstrip("\n") == (self.html or self.text).rstrip("\n")
        assert len(sent.parts) == len(self.files)
        for part, file in zip(sent.parts, self.files, strict=True):
            assert (part.name, part.inline) == (file.name, bool(file.content_id))
            assert part.content_id == file.content_id or not part.inline  # some give one to every file
            assert part.content == file.content


def _address(named: Named) -> Address:
    return Address(named[0], addr_spec=named[1])


def _attach(message: EmailMessage, file: File) -> None:
    main, _, sub = file.media_type.partition("/")
    if file.content_id:
        html = message.get_body(("html",))
        assert html is not None
        html.add_related(file.content, main, sub, cid=f"<{file.content_id}>", filename=file.name, disposition="inline")
    else:
        message.add_attachment(file.content, main, sub, filename=file.name)


@cache
def _octets(size: int) -> bytes:
    """The same at every run, each value of an octet and each line end somewhere inside."""
    return random.Random(size).randbytes(size - 8) + b"\r\n.\r\n\n\r\0"


def _people(kind: str, number: int) -> tuple[Named, ...]:
    return tuple(("", f"{kind}-{n}@example.org") for n in range(number))


IMAGE = File("logo.png", "image/png", b"\x89PNG\r\n\x1a\n" + _octets(3000), content_id="logo@client.example")
MAILS = (
    Mail("plain", text="Two lines\n.and a dot, and a longer one " + "x" * 300 + "\n\n.\nThe end.\n"),
    Mail("html", html="<p>A <b>report</b> &amp; a dot:</p>\n.\n<p>The end</p>\n"),
    Mail("alternative", text="A report\n", html="<p>A <i>report</i></p>\n"),
    Mail(
        "attachments",
        text="Two files\n",
        files=(
            File("small.bin", "application/octet-stream", _octets(10_000)),
            File("report.pdf", "application/pdf", _octets(300_000)),
        ),
    ),
    Mail("large", text="One file\n", files=(File("large.bin", "application/octet-stream", _octets(2_000_000)),)),
    Mail(
        "inline",
        text="A picture\n",
        html=f'<p>A picture: <img src="cid:{IMAGE.content_id}"></p>\n',
        files=(IMAGE,),
    ),
    Mail(
        "non-ascii",
        subject="Prüfbericht für März — 検査報告 🎉 — und noch viel mehr, damit die Zeile umgebrochen werden muss",
        sender_name="Jörg Grünewald",
        to=(("Ångström Øyvind", "you@example.org"),),
        cc=(("山田 太郎", "taro@example.org"),),
        text="Grüße aus Köln: 5 €, Ελληνικά, 漢字, 🎉\nund eine zweite Zeile\n",
        files=(File("Übersicht — 報告.pdf", "application/pdf", _octets(10_001)),),
    ),
    Mail("500-recipients", to=_people("to", 300), cc=_people("cc", 100), bcc=tuple(a for _, a in _people("bcc", 100)),
         text="For many\n"),
    Mail("bcc", to=(("Seen", "seen@example.org"),), cc=(("Also", "also@example.org"),),
         bcc=("hidden@example.net", "unseen@example.net"), text="For some\n"),
)  # fmt: skip
