# SPDX-License-Identifier: MIT
"""Messages as devices and programs write them, in the languages of their users: over 200, all made up.

Each program is one function that writes its habits: field order, charsets, encodings, boundaries, faults. Shares no
code with relay/. Addresses are of example domains; the envelope is TO.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

FROM = "scanner@example.com"
TO = ("anna@example.com", "ben@example.net")


class Letter(NamedTuple):
    language: str
    charset: str  # that old programs of these users write
    name: str
    subject: str
    text: str  # lines with LF


class Message(NamedTuple):
    id: str
    octets: bytes


LETTERS = (
    Letter(
        "en", "us-ascii", "Front Office", "Your invoice 4711", "Dear customer,\n\nplease find it attached.\n-- \nACME"
    ),
    Letter("de", "iso-8859-1", "Büro Köln", "Rechnung für März", "Guten Tag,\n\nanbei die Übersicht.\nMit Grüßen"),
    Letter(
        "fr", "iso-8859-15", "Comptabilité", "Facture nº 12 à 5 €", "Bonjour,\n\nvoici le relevé, déjà réglé (5 €)."
    ),
    Letter("es", "windows-1252", "Señor Núñez", "Aviso: “pedido”", "Estimado señor:\n\n¿Recibió el pedido – año 2026?"),
    Letter("pl", "iso-8859-2", "Księgowość", "Zażółć gęślą jaźń", "Dzień dobry,\n\nw załączniku faktura. Łódź"),
    Letter("cs", "windows-1250", "Účtárna", "Příliš žluťoučký kůň", "Dobrý den,\n\nv příloze najdete účet."),
    Letter("ru", "koi8-r", "Бухгалтерия", "Счёт за март", "Здравствуйте!\n\nВо вложении счёт-фактура."),
    Letter("bg", "windows-1251", "Счетоводство", "Фактура", "Здравейте,\n\nприложена е фактурата."),
    Letter("el", "iso-8859-7", "Λογιστήριο", "Τιμολόγιο", "Καλημέρα σας,\n\nσας στέλνουμε το τιμολόγιο."),
    Letter("tr", "iso-8859-9", "Muhasebe İşleri", "Fatura ödendi", "Merhaba,\n\nışık faturası ektedir. Şükrü"),
    Letter("he", "windows-1255", "הנהלת חשבונות", "חשבונית", "שלום,\n\nמצורפת החשבונית."),
    Letter("ja", "iso-2022-jp", "経理部", "請求書の送付", "お世話になっております。\n\n請求書を送ります。"),
    Letter("zh", "gb2312", "财务部", "三月发票", "您好,\n\n附件是发票。"),
    Letter("ko", "euc-kr", "경리부", "청구서", "안녕하세요.\n\n청구서를 보냅니다."),
    Letter("uk", "utf-8", "Бухгалтерія 🧾", "Рахунок 😀", "Вітаємо!\n\nРахунок у вкладенні 😀. Ґанок, їжак."),
)
PDF = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n" + zlib.compress(bytes(range(256)) * 40, 0) + b"\n%%EOF\n"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TIFF = b"II*\0\x08\0\0\0" + bytes(range(256)) * 12
ICS = (
    "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:1@example.com\r\n"
    "DTSTART:20260301T120000Z\r\nSUMMARY:{}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)


def lines(text: str) -> str:
    return text.replace("\n", "\r\n") + "\r\n"


def word(text: str, charset: str = "utf-8", encoding: str = "B") -> str:
    """An encoded word, or the text where it needs none."""
    if text.isascii():
        return text
    octets = text.encode(charset)
    if encoding == "B":
        return f"=?{charset}?B?{base64.b64encode(octets).decode()}?="
    return f"=?{charset}?Q?{''.join(f'={octet:02X}' for octet in octets)}?="


def b64(content: bytes, width: int = 76) -> str:
    text = base64.b64encode(content).decode()
    return "".join(text[at : at + width] + "\r\n" for at in range(0, len(text), width))


def qp(text: str, charset: str) -> str:
    octets = "\r\n".join(text.split("\n")).encode(charset)
    return binascii.b2a_qp(octets, istext=True).decode() + "\r\n"


def joined(boundary: str, *parts: str, preamble: str = "", end: str = "--\r\n") -> str:
    return preamble + "".join(f"--{boundary}\r\n{part}\r\n" for part in parts) + f"--{boundary}{end}"


def html(letter: Letter) -> str:
    return f"<html><head></head><body><p>{letter.text.replace(chr(10), '<br>')}</p></body></html>\r\n"


def scanner(letter: Letter) -> bytes:
    """Multifunction device: two parts, a file without a type of its own, no Message-ID."""
    return (
        f'From: "Scanner" <{FROM}>\r\nTo: {TO[0]}\r\nSubject: {word(letter.subject)}\r\nMIME-Version: 1.0\r\n'
        'Content-Type: multipart/mixed; boundary="----=_Scan_0001"\r\n\r\n'
        + joined(
            "----=_Scan_0001",
            f"Content-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: base64\r\n\r\n{b64(lines(letter.text).encode())}",
            'Content-Type: application/octet-stream; name="DOC0001.PDF"\r\nContent-Transfer-Encoding: base64\r\n'
            f'Content-Disposition: attachment; filename="DOC0001.PDF"\r\n\r\n{b64(PDF, 60)}',
            preamble="This is a multi-part message in MIME format.\r\n\r\n",
        )
    ).encode()


def fax_gateway(letter: Letter) -> bytes:
    """TIFF alone, no text, no names."""
    return (
        f"Date: Sun, 1 Mar 2026 12:00:00 +0100\r\nFrom: {FROM}\r\nTo: <{TO[0]}>,<{TO[1]}>\r\nSubject: {word(letter.subject, encoding='Q')}\r\n"
        f"MIME-Version: 1.0\r\nContent-Type: image/tiff\r\nContent-Transfer-Encoding: base64\r\n\r\n{b64(TIFF)}"
    ).encode()


def old_device(letter: Letter) -> bytes:
    """Raw 8-bit in the charset of the country, none named, bare LF, the barest header."""
    return f"From: {FROM}\nTo: {TO[0]}\nSubject: {letter.subject}\n\n{letter.text}\n".encode(letter.charset)


def copier_without_header(letter: Letter) -> bytes:
    return lines(letter.text).encode()


def monitoring(letter: Letter) -> bytes:
    """Alerts by sendmail: 8-bit in UTF-8, Auto-Submitted, Precedence."""
    return (
        f"Date: Sun, 01 Mar 2026 12:00:00 +0000\r\nTo: {TO[0]}\r\nFrom: Monitoring <{FROM}>\r\nSubject: ** PROBLEM ** {word(letter.subject)}\r\n"
        "Auto-Submitted: auto-generated\r\nPrecedence: bulk\r\nX-Host: srv01\r\nX-State: CRITICAL\r\n"
        "Content-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: 8bit\r\nMIME-Version: 1.0\r\n\r\n"
        f"{lines(letter.text)}"
    ).encode()


def erp(letter: Letter) -> bytes:
    """A national charset in quoted-printable, several files with names in encoded words."""
    charset = letter.charset
    name = word(letter.subject + ".pdf", charset) if not letter.subject.isascii() else letter.subject + ".pdf"
    return (
        f"Message-ID: <4711.{letter.language}@erp.example.com>\r\nFrom: {word(letter.name, charset)} <{FROM}>\r\nTo: {TO[0]}\r\nCc: {TO[1]}\r\n"
        f"Reply-To: {word(letter.name, charset)} <erp@example.com>\r\nSubject: {word(letter.subject, charset)}\r\nX-Priority: 1\r\nX-Mailer: ERP 7.5\r\n"
        'MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary="=-erp-1"\r\n\r\n'
        + joined(
            "=-erp-1",
            f"Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{qp(letter.text, charset)}",
            f'Content-Type: application/pdf; name="{name}"\r\nContent-Transfer-Encoding: base64\r\n'
            f'Content-Disposition: attachment;\r\n filename="{name}"\r\n\r\n{b64(PDF)}',
            f"Content-Type: text/csv; charset={charset}\r\nContent-Disposition: attachment; filename=data.csv\r\n"
            f"Content-Transfer-Encoding: base64\r\n\r\n{b64(lines(letter.text).encode(charset))}",
        )
    ).encode()


def dotnet(letter: Letter) -> bytes:
    """System.Net.Mail: quoted-printable, base64 subject, views as alternatives."""
    return (
        f"MIME-Version: 1.0\r\nFrom: {word(letter.name)} <{FROM}>\r\nTo: {TO[0]}, {TO[1]}\r\nDate: 1 Mar 2026 13:00:00 +0100\r\nSubject: {word(letter.subject)}\r\n"
        "Content-Type: multipart/alternative;\r\n boundary=--boundary_0_af4c\r\n\r\n\r\n"
        + joined(
            "--boundary_0_af4c",
            f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{qp(letter.text, 'utf-8')}",
            f"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n{b64(html(letter).encode())}",
        )
    ).encode()


def php(letter: Letter) -> bytes:
    """PHPMailer: 8-bit HTML with an inline image, boundaries b1_ and b2_."""
    return (
        f"Date: Sun, 1 Mar 2026 12:00:00 +0000\r\nTo: {TO[0]}\r\nFrom: {word(letter.name)} <{FROM}>\r\nSubject: {word(letter.subject, encoding='Q')}\r\n"
        "Message-ID: <abc@shop.example.com>\r\nX-Mailer: PHPMailer 6.9\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/related; type="multipart/alternative";\r\n boundary="b1_x"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n'
        + joined(
            "b1_x",
            'Content-Type: multipart/alternative;\r\n boundary="b2_x"\r\n\r\n'
            + joined(
                "b2_x",
                f"Content-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{lines(letter.text)}",
                f'Content-Type: text/html; charset=UTF-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{html(letter)}<img src="cid:logo">\r\n',
            ),
            'Content-Type: image/png; name="logo.png"\r\nContent-Transfer-Encoding: base64\r\nContent-ID: <logo>\r\n'
            f"Content-Disposition: inline; filename=logo.png\r\n\r\n{b64(PNG)}",
        )
    ).encode()


def outlook(letter: Letter) -> bytes:
    """Outlook: windows charset, image001.png@… ids, Thread-Index, Importance, receipts."""
    charset = letter.charset if letter.charset.startswith("windows") else "utf-8"
    return (
        f"From: {word(letter.name, charset, 'Q')} <{FROM}>\r\nTo: \"'Anna'\" <{TO[0]}>\r\nCc: <{TO[1]}>\r\n"
        f"Subject: {word(letter.subject, charset, 'Q')}\r\nDate: Sun, 1 Mar 2026 13:00:00 +0100\r\nMessage-ID: <000001da$@example.com>\r\n"
        'MIME-Version: 1.0\r\nContent-Type: multipart/related;\r\n\tboundary="----=_NextPart_000_0001_01DA.8A"\r\n'
        "X-Mailer: Microsoft Outlook 16.0\r\nThread-Index: AdoAAAA=\r\nContent-Language: de\r\nImportance: high\r\n"
        f"X-Priority: 1 (Highest)\r\nDisposition-Notification-To: <{FROM}>\r\n\r\nThis is a multipart message in MIME format.\r\n\r\n"
        + joined(
            "----=_NextPart_000_0001_01DA.8A",
            'Content-Type: multipart/alternative;\r\n\tboundary="----=_NextPart_001_0002_01DA.8A"\r\n\r\n\r\n'
            + joined(
                "----=_NextPart_001_0002_01DA.8A",
                f'Content-Type: text/plain;\r\n\tcharset="{charset}"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{qp(letter.text, charset)}',
                f'Content-Type: text/html;\r\n\tcharset="{charset}"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n'
                + qp(html(letter).strip() + '<img src="cid:image001.png@01DA2F3C.5E6F7A80">', charset),
            ),
            'Content-Type: image/png;\r\n\tname="image001.png"\r\nContent-Transfer-Encoding: base64\r\n'
            f"Content-ID: <image001.png@01DA2F3C.5E6F7A80>\r\n\r\n{b64(PNG)}",
        )
    ).encode()


def apple_mail(letter: Letter) -> bytes:
    """Apple Mail: HTML, file, HTML inside of one alternative; names by RFC 2231."""
    name = "".join(f"%{octet:02X}" for octet in (letter.subject + ".pdf").encode())
    return (
        f'From: {word(letter.name)} <{FROM}>\r\nContent-Type: multipart/alternative;\r\n\tboundary="Apple-Mail=_1"\r\n'
        f"Mime-Version: 1.0 (Mac OS X Mail 16.0 \\(3774\\))\r\nSubject: {word(letter.subject)}\r\nMessage-Id: <A1@example.com>\r\n"
        f"Date: Sun, 1 Mar 2026 12:00:00 +0000\r\nTo: {TO[0]}\r\n\r\n\r\n"
        + joined(
            "Apple-Mail=_1",
            f"Content-Transfer-Encoding: quoted-printable\r\nContent-Type: text/plain;\r\n\tcharset=utf-8\r\n\r\n{qp(letter.text, 'utf-8')}",
            'Content-Type: multipart/mixed;\r\n\tboundary="Apple-Mail=_2"\r\n\r\n\r\n'
            + joined(
                "Apple-Mail=_2",
                f"Content-Transfer-Encoding: quoted-printable\r\nContent-Type: text/html;\r\n\tcharset=utf-8\r\n\r\n{qp(html(letter), 'utf-8')}",
                f"Content-Disposition: inline;\r\n\tfilename*=utf-8''{name}\r\nContent-Type: application/pdf\r\n"
                f"Content-Transfer-Encoding: base64\r\n\r\n{b64(PDF)}",
                "Content-Transfer-Encoding: 7bit\r\nContent-Type: text/html;\r\n\tcharset=us-ascii\r\n\r\n<html><br>end</html>\r\n",
            ),
        )
    ).encode()


def thunderbird(letter: Letter) -> bytes:
    """Thunderbird: format=flowed in 8-bit, an attached message without a name."""
    return (
        f"Message-ID: <t1@example.com>\r\nDate: Sun, 1 Mar 2026 13:00:00 +0100\r\nMIME-Version: 1.0\r\nUser-Agent: Mozilla Thunderbird\r\n"
        f"Content-Language: en-US\r\nTo: {TO[0]}\r\nFrom: {word(letter.name)} <{FROM}>\r\nSubject: Fwd: {word(letter.subject)}\r\n"
        'In-Reply-To: <x@example.com>\r\nReferences: <w@example.com>\r\n <x@example.com>\r\nContent-Type: multipart/mixed; boundary="------------0b"\r\n\r\n'
        + joined(
            "------------0b",
            f"Content-Type: text/plain; charset=UTF-8; format=flowed\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{lines(letter.text)}",
            "Content-Type: message/rfc822\r\nContent-Disposition: attachment\r\n\r\nFrom: x@example.com\r\nSubject: inner\r\n"
            f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{lines(letter.text)}",
            preamble="This is a multi-part message in MIME format.\r\n",
        )
    ).encode()


def mailing_list(letter: Letter) -> bytes:
    """Mailman: list fields, DKIM of the author, a footer beside."""
    return (
        "Received: from a.example.com by b.example.com; Sun, 1 Mar 2026 12:00:00 +0000\r\n"
        "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d=example.com; s=k;\r\n\th=from:to:subject; bh=AAAA=;\r\n\tb=AAAA\r\n"
        f"From: {word(letter.name)} via List <{FROM}>\r\nSender: list-bounces@example.com\r\nTo: list@example.com\r\nReply-To: list@example.com\r\n"
        f"Subject: [list] {word(letter.subject)}\r\nList-Id: The list <list.example.com>\r\nList-Unsubscribe: <mailto:leave@example.com>\r\n"
        "Precedence: list\r\nX-Mailman-Version: 3\r\nX-BeenThere: list@example.com\r\nMessage-ID: <m@example.com>\r\nDate: Sun, 1 Mar 2026 12:00:00 +0000\r\n"
        'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="===============1=="\r\n\r\n'
        + joined(
            "===============1==",
            f'Content-Type: text/plain; charset="utf-8"\r\nContent-Transfer-Encoding: base64\r\n\r\n{b64(lines(letter.text).encode())}',
            'MIME-Version: 1.0\r\nContent-Type: text/plain; charset="us-ascii"\r\nContent-Transfer-Encoding: 7bit\r\n'
            "Content-Disposition: inline\r\n\r\n_______\r\nlist@example.com\r\n",
        )
    ).encode()


def delivery_report(letter: Letter) -> bytes:
    """A bounce, RFC 3464."""
    return (
        f"From: MAILER-DAEMON@example.com (Mail Delivery System)\r\nTo: {TO[0]}\r\nSubject: Undelivered Mail Returned to Sender\r\nAuto-Submitted: auto-replied\r\n"
        'Date: Sun, 1 Mar 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="D/1"\r\n\r\n'
        + joined(
            "D/1",
            f"Content-Description: Notification\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{lines(letter.text)}",
            "Content-Description: Delivery report\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.com\r\n\r\n"
            "Final-Recipient: rfc822; x@example.org\r\nAction: failed\r\nStatus: 5.1.1\r\n",
            f"Content-Type: text/rfc822-headers; charset=utf-8\r\n\r\nFrom: {FROM}\r\nSubject: {word(letter.subject)}\r\n",
        )
    ).encode()


def invitation(letter: Letter) -> bytes:
    """A meeting request as calendar programs write it."""
    ics = ICS.format(letter.subject).encode()
    return (
        f"MIME-Version: 1.0\r\nFrom: {word(letter.name)} <{FROM}>\r\nTo: {TO[0]}\r\nSubject: Invitation: {word(letter.subject)}\r\n"
        'Content-Type: multipart/mixed; boundary="000000000000a"\r\n\r\n'
        + joined(
            "000000000000a",
            'Content-Type: multipart/alternative; boundary="000000000000b"\r\n\r\n'
            + joined(
                "000000000000b",
                f'Content-Type: text/plain; charset="UTF-8"; format=flowed; delsp=yes\r\nContent-Transfer-Encoding: base64\r\n\r\n{b64(lines(letter.text).encode())}',
                f'Content-Type: text/html; charset="UTF-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{qp(html(letter), "utf-8")}',
                f'Content-Type: text/calendar; charset="UTF-8"; method=REQUEST\r\nContent-Transfer-Encoding: base64\r\n\r\n{b64(ics)}',
            ),
            'Content-Type: application/ics; name="invite.ics"\r\nContent-Disposition: attachment; filename="invite.ics"\r\n'
            f"Content-Transfer-Encoding: base64\r\n\r\n{b64(ics)}",
        )
    ).encode()


def smime_signed(letter: Letter) -> bytes:
    return (
        f"From: {FROM}\r\nTo: {TO[0]}\r\nSubject: {word(letter.subject)}\r\nMIME-Version: 1.0\r\nMessage-ID: <s@example.com>\r\n"
        'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256;\r\n boundary="----S"\r\n\r\n'
        + joined(
            "----S",
            f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{lines(letter.text)}",
            'Content-Type: application/pkcs7-signature; name="smime.p7s"\r\nContent-Transfer-Encoding: base64\r\n'
            f'Content-Disposition: attachment; filename="smime.p7s"\r\n\r\n{b64(PNG)}',
            preamble="This is an S/MIME signed message\r\n\r\n",
        )
    ).encode()


def smime_encrypted(letter: Letter) -> bytes:
    return (
        f"From: {FROM}\r\nTo: {TO[0]}\r\nSubject: {word(letter.subject)}\r\nMIME-Version: 1.0\r\n"
        'Content-Disposition: attachment; filename="smime.p7m"\r\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data; name="smime.p7m"\r\n'
        f"Content-Transfer-Encoding: base64\r\n\r\n{b64(TIFF, 64)}"
    ).encode()


def pgp_mime(letter: Letter) -> bytes:
    armour = f"-----BEGIN PGP MESSAGE-----\r\n\r\n{b64(PNG, 64)}=abcd\r\n-----END PGP MESSAGE-----\r\n"
    return (
        f"From: {FROM}\r\nTo: {TO[0]}\r\nSubject: {word(letter.subject)}\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted";\r\n boundary="PGP"\r\n\r\n'
        + joined(
            "PGP",
            "Content-Type: application/pgp-encrypted\r\nContent-Description: PGP/MIME version identification\r\n\r\nVersion: 1\r\n",
            f'Content-Type: application/octet-stream; name="encrypted.asc"\r\nContent-Disposition: inline; filename="encrypted.asc"\r\n\r\n{armour}',
            preamble="This is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)\r\n",
        )
    ).encode()


def webshop(letter: Letter) -> bytes:
    """nodemailer: HTML alone, many X- fields, List-Unsubscribe, an attachment by a long continued name."""
    encoded = [f"%{octet:02X}" for octet in (letter.subject * 4 + ".png").encode()]
    pieces = ["".join(encoded[at : at + 15]) for at in range(0, len(encoded), 15)]
    name = ";\r\n ".join(
        f"filename*{number}*={chr(117) + 'tf-8' + chr(39) * 2 if not number else ''}{piece}"
        for number, piece in enumerate(pieces)
    )
    fields = "".join(f"X-Shop-{number}: {number}\r\n" for number in range(8))
    return (
        f"From: {word(letter.name)} <{FROM}>\r\nTo: {TO[0]}\r\nBcc: {TO[1]}\r\nSubject: {word(letter.subject)}\r\n{fields}"
        "List-Unsubscribe: <https://shop.example.com/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
        'Message-ID: <n@shop.example.com>\r\nDate: Sun, 01 Mar 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary="--_NmP-1-Part_1"\r\n\r\n'
        + joined(
            "--_NmP-1-Part_1",
            f"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{qp(html(letter), 'utf-8')}",
            f"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment;\r\n {name}\r\n\r\n{b64(PNG)}",
        )
    ).encode()


def report_server(letter: Letter) -> bytes:
    """A report as HTML in a national charset, the charset in the HTML alone, bare LF, an empty file."""
    charset = letter.charset
    page = html(letter).replace(
        "<head>", f'<head><meta http-equiv="Content-Type" content="text/html; charset={charset}">'
    )
    return (
        f"from: {FROM}\nto: {TO[0]};{TO[1]}\nsubject: {word(letter.subject, charset)}\nmime-version: 1.0\ncontent-type: multipart/mixed; boundary=x\n\n"
        "--x\ncontent-type: text/html\ncontent-transfer-encoding: base64\n\n"
        + b64(page.encode(charset)).replace("\r\n", "\n")
        + "\n--x\ncontent-type: application/octet-stream; name=empty.dat\ncontent-transfer-encoding: base64\n\n\n--x--\n"
    ).encode()


def cut_off(letter: Letter) -> bytes:
    """A device that never writes the last boundary."""
    return scanner(letter)[: -len("------=_Scan_0001--\r\n") - 4]


PROGRAMS: tuple[Callable[[Letter], bytes], ...] = (
    *(scanner, fax_gateway, old_device, copier_without_header, monitoring, erp, dotnet, php, outlook, apple_mail),
    *(thunderbird, mailing_list, delivery_report, invitation, smime_signed, smime_encrypted, pgp_mime, webshop),
    *(report_server, cut_off),
)


def messages() -> Iterator[Message]:
    """Every program's message in every language."""
    for program in PROGRAMS:
        for letter in LETTERS:
            yield Message(f"{program.__name__}-{letter.language}", program(letter))
