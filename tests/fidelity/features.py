# SPDX-License-Identifier: MIT
"""The table of docs/fidelity.md: one message for each feature, sent in both forms, and looked at.

`python -m tests.fidelity.features` writes the page; a test compares it.
"""

from __future__ import annotations

import base64
import email
import email.message
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.fidelity.reading import header_text, parts_of
from tests.support.graph_api import deliver

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fidelity.md"
HEAD = "From: Jürgen <scanner@example.com>\nTo: Anna Ä <a@example.com>, b@example.com\nSubject: Grüße\n".encode()
INTRO = """\
# What survives

<!-- Made by python -m tests.fidelity.features: each cell is what a message with this feature really came to. -->

Graph takes a message as JSON or as MIME (`graph_format`). JSON can leave Sent Items alone; MIME keeps nearly everything. `auto` takes
MIME with `save_to_sent: true`, and where JSON would lose a signature, an invitation and the like; the last column says where.
The log line has `form`, `form_reason` and, in `not_carried`, what the form has no place for.

What Exchange does with a message afterwards is Exchange's: it may replace Message-ID and Date, and it signs with its own DKIM key.

| feature | JSON | MIME | auto, `save_to_sent: false` |
| --- | --- | --- | --- |
"""
NOTES = """
- *yes*: it arrives as it was sent. *named*: it does not, and `not_carried` names it. *no*: it does not, and there is nothing to name.
- Never in either form: a Bcc field that a recipient could read, an address that the envelope does not name, a Sender that is not the
  mailbox or From, a second From address, Resent-To and its like.
- Mended in MIME: missing From, Date, Message-ID and MIME-Version are added; raw 8-bit in the header becomes encoded words, NUL in it
  goes, long lines in it are folded; 8-bit text becomes base64, unless it is signed (S/MIME, PGP, DKIM) or inside of an attached message,
  and is called Windows-1252 where it says UTF-8 and is not.
- In JSON the first HTML part is the body. Further text parts that are no alternative of it arrive as files in UTF-8, ATT00001.txt and so on;
  where there is no HTML, all text parts together are the body. HTML that shows nothing does not stand in the way of a text.
- A raw 8-bit header is read as UTF-8, else in the charset that the text names, else as Windows-1252. A text is read in the charset that
  it names; single octets that are none of it are read as Windows-1252. Under ISO-8859-1 Windows' characters are read too, as browsers do.
- Neither form cuts anything off: what cannot be taken apart is attached, or stays, as it came.
"""
Json = dict[str, Any]
Mime = email.message.Message


class Feature(NamedTuple):
    name: str
    octets: bytes
    in_json: Callable[[Json], bool]
    in_mime: Callable[[Mime], bool]


def multipart(subtype: str, *parts: bytes, top: bytes = b"") -> bytes:
    body = b"".join(b"--b\n" + part + b"\n" for part in parts)
    return HEAD + top + b"Content-Type: multipart/" + subtype.encode() + b"; boundary=b\n\n" + body + b"--b--\n"


def field(name: str, value: str, json: Callable[[Json], bool] = lambda _: False) -> Feature:
    """A header field that MIME keeps as it is."""
    octets = HEAD + f"{name}: {value}\n\nbody\n".encode()
    return Feature(name, octets, json, lambda mime: header_text(mime[name]) == value)


def part(name: str, given: bytes, looks_like: Callable[[Json], bool]) -> Feature:
    """An attachment beside a text."""
    octets = multipart("mixed", TEXT, given)
    content = parts_of(given)[0].content
    return Feature(name, octets, looks_like, lambda mime: parts_of(mime.as_bytes())[-1].content == content)


def whole(name: str, octets: bytes, in_json: Callable[[Json], bool] = lambda _: False) -> Feature:
    """Something that is there when no octet of the body has changed."""
    body = octets.partition(b"\n\n")[2]
    return Feature(name, octets, in_json, lambda mime: mime.as_bytes().partition(b"\n\n")[2] == body)


def attached(message: Json, number: int = 0) -> Json:
    found: Json = message["attachments"][number]
    return found


def content(message: Json) -> bytes:
    return base64.b64decode(attached(message)["contentBytes"])


def extended(message: Json, value: str) -> bool:
    return any(item["value"] == value for item in message.get("singleValueExtendedProperties", ()))


def header(message: Json, name: str) -> bool:
    return any(item["name"] == name for item in message.get("internetMessageHeaders", ()))


TEXT = b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\nR3LDvMOfZQ==\n"
HTML = b"Content-Type: text/html; charset=utf-8\n\n<p>x <img src='cid:i@x'></p>\n"
ICS = b"BEGIN:VCALENDAR\nEND:VCALENDAR\n"
SIGNATURE = b"Content-Type: application/pkcs7-signature; name=smime.p7s\n\nx\n"
MANY = b"".join(b"X-%d: x\n" % number for number in range(1, 8))
FEATURES = (
    Feature(
        "Subject, and display names, not in ASCII",
        HEAD + b"\nbody\n",
        lambda m: (m["subject"], m["toRecipients"][0]["emailAddress"]["name"]) == ("Grüße", "Anna Ä"),
        lambda m: header_text(m["Subject"]) == "Grüße" and header_text(m["To"]).startswith("Anna Ä <"),
    ),
    Feature(
        "text in any charset",
        HEAD + b"Content-Type: text/plain; charset=koi8-r\n\n" + "Привет\n".encode("koi8-r"),
        lambda m: m["body"]["content"] == "Привет\r\n",
        lambda m: parts_of(m.as_bytes())[0].text == "Привет\r\n",
    ),
    Feature(
        "8-bit text that names no charset",
        HEAD + b"\nGr\xfc\xdfe",
        lambda m: m["body"]["content"] == "Grüße",
        lambda m: parts_of(m.as_bytes())[0].text == "Grüße",
    ),
    Feature(
        "further text beside HTML, in any charset",
        multipart("mixed", HTML, b"Content-Type: text/plain; charset=iso-8859-1\n\nGr\xfc\xdfe"),
        lambda m: (attached(m)["name"], content(m).decode()) == ("ATT00001.txt", "Grüße"),
        lambda m: parts_of(m.as_bytes())[1].text == "Grüße",
    ),
    Feature("HTML body", HEAD + HTML, lambda m: m["body"]["contentType"] == "html", lambda m: "cid:i@x" in str(m)),
    whole("text alternative of HTML", multipart("alternative", TEXT, HTML), lambda m: "Grüße" in m["body"]["content"]),
    whole(
        "other alternatives (text/enriched, AMP)", multipart("alternative", b"Content-Type: text/enriched\n\nx", HTML)
    ),
    field("Reply-To", "r@example.com", lambda m: m["replyTo"][0]["emailAddress"]["address"] == "r@example.com"),
    field("Importance", "high", lambda m: m["importance"] == "high"),
    field("X-Priority", "1", lambda m: m["importance"] == "high"),
    field("Disposition-Notification-To", "scanner@example.com", lambda m: m["isReadReceiptRequested"]),
    field("Return-Receipt-To", "scanner@example.com", lambda m: m["isDeliveryReceiptRequested"]),
    field("Message-ID", "<1@example.com>", lambda m: extended(m, "<1@example.com>")),
    field("In-Reply-To", "<1@example.com>", lambda m: extended(m, "<1@example.com>")),
    field("References", "<1@example.com> <2@example.com>", lambda m: extended(m, "<1@example.com> <2@example.com>")),
    field("Date", "Sun, 01 Mar 2026 12:00:00 +0100"),
    field("List-Unsubscribe", "<https://example.com/u>"),
    field("Auto-Submitted", "auto-generated"),
    field("Received", "from a by b; Sun, 01 Mar 2026 12:00:00 +0100"),
    Feature("X- fields, up to five", HEAD + MANY + b"\nbody", lambda m: header(m, "X-5"), lambda m: m["X-5"] == "x"),
    Feature(
        "X- fields, from the sixth", HEAD + MANY + b"\nbody", lambda m: header(m, "X-6"), lambda m: m["X-6"] == "x"
    ),
    part(
        "attachment with its name",
        b"Content-Type: application/pdf; name=a.pdf\nContent-Transfer-Encoding: base64\n\nUERG\n",
        lambda m: (attached(m)["name"], content(m)) == ("a.pdf", b"PDF"),
    ),
    part(
        "name by RFC 2231 or RFC 2047",
        b"Content-Type: a/b\nContent-Disposition: attachment; filename*=utf-8''%C3%9C.pdf\n\nx",
        lambda m: attached(m)["name"] == "Ü.pdf",
    ),
    part("attachment without a name", b"Content-Type: image/png\n\nx", lambda m: content(m) == b"x"),
    part("empty attachment", b"Content-Type: a/b; name=a\n\n", lambda m: content(m) == b""),
    part("attached message", b"Content-Type: message/rfc822\n\nSubject: x\n\ny", lambda m: b"Subject: x" in content(m)),
    part("calendar file", b"Content-Type: text/calendar; name=a.ics\n\n" + ICS, lambda m: b"VCALENDAR" in content(m)),
    whole(
        "image that the HTML names by Content-Location",
        multipart("related", HTML + b"<img src=a.png>", b"Content-Type: image/png\nContent-Location: a.png\n\nx"),
    ),
    Feature(
        "inline image",
        multipart("related", HTML, b"Content-Type: image/png\nContent-ID: <i@x>\n\nx"),
        lambda m: attached(m)["isInline"] and attached(m)["contentId"] == "i@x",
        lambda m: "Content-ID: <i@x>" in str(m),
    ),
    Feature(
        "attachment that cannot be decoded, as it came",
        HEAD + b"Content-Type: a/b; name=c\nContent-Transfer-Encoding: base64\n\n!!",
        lambda m: content(m) == b"!!",
        lambda m: m.get_payload() == "!!",
    ),
    whole("invitation", multipart("alternative", TEXT, b"Content-Type: text/calendar; method=REQUEST\n\n" + ICS)),
    whole("delivery report", multipart("report", TEXT, b"Content-Type: message/delivery-status\n\nAction: failed\n")),
    whole(
        "S/MIME signature", multipart("signed", b"Content-Type: text/plain; charset=utf-8\n\nGr\xc3\xbc\n", SIGNATURE)
    ),
    whole("S/MIME encryption", HEAD + b"Content-Type: application/pkcs7-mime; name=smime.p7m\n\nx\n"),
    whole("PGP/MIME", multipart("encrypted", b"Content-Type: application/pgp-encrypted\n\nVersion: 1", b"\nx")),
    whole("PGP in the text", HEAD + b"\n-----BEGIN PGP SIGNED MESSAGE-----\n\nx\n"),
    whole("Outlook rich text (winmail.dat)", HEAD + b"Content-Type: application/ms-tnef; name=winmail.dat\n\nx\n"),
    whole("body under a DKIM signature", HEAD + b"DKIM-Signature: v=1\n\nGr\xc3\xbc\xc3\x9fe \n\n"),
    Feature("no copy in Sent Items", HEAD + b"\nbody", lambda m: not m["saved"], lambda m: not m["saved"]),
)


def rows() -> Iterator[str]:
    """The table, line by line."""
    for feature in FEATURES:
        json, json_account = deliver(feature.octets, "a@example.com", format="json")
        mime, mime_account = deliver(feature.octets, "a@example.com", format="mime")
        automatic, _ = deliver(feature.octets, "a@example.com")
        assert json.message is not None
        assert mime.mime is not None
        parsed = email.message_from_bytes(mime.mime)
        parsed["saved"] = "yes" if mime.save_to_sent else ""
        in_json = _cell(feature.in_json({**json.message, "saved": json.save_to_sent}), json_account.not_carried)
        in_mime = _cell(feature.in_mime(parsed), mime_account.not_carried)
        yield f"| {feature.name} | {in_json} | {in_mime} | {automatic.form} |\n"


def _cell(arrives: bool, not_carried: tuple[str, ...]) -> str:
    return "yes" if arrives else "named" if not_carried else "no"


def page() -> str:
    return INTRO + "".join(rows()) + NOTES


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
