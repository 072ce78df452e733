# SPDX-License-Identifier: MIT
"""Which form each kind of message gets, and what the log is told (contract §5)."""

from __future__ import annotations

import pytest

from relay.message.form import Choice, choose_form
from relay.message.model import Message
from relay.message.parse import parse


def read(text: str) -> Message:
    return parse(text.replace("\n", "\r\n").encode(), strict_attachments=False)


def multipart(subtype: str, *parts: str) -> str:
    inside = "".join(f"--b\n{part}\n" for part in parts)
    return f"Subject: x\nContent-Type: multipart/{subtype}; boundary=b\n\n{inside}--b--\n"


TEXT = "Content-Type: text/plain\n\ntext"
HTML = "Content-Type: text/html\n\n<p>html</p>"
LOCATED_HTML = 'Content-Type: text/html\n\n<img src="http://example.com/a.png"> <img src="cid:a@x">'
A_PNG = "Content-Type: image/png\nContent-Location: a.png\n\nx"
LOCATED = "Content-Type: image/png\nContent-Location: http://example.com/a.png\n\nx"
INVITATION = "Content-Type: text/calendar; method=REQUEST\n\nBEGIN:VCALENDAR"
SEVEN_HEADERS = "".join(f"X-{number}: x\n" for number in range(7))


@pytest.mark.parametrize(
    ("text", "losses"),
    [
        (multipart("signed", TEXT, "Content-Type: application/pkcs7-signature\n\nx"), "signature"),
        (multipart("encrypted", "Content-Type: application/pgp-encrypted\n\nx", "\n\nx"), "encryption"),
        ("Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\n\nx", "encryption"),
        ("Content-Type: application/x-pkcs7-mime; smime-type=Signed-Data\n\nx", "signature"),
        ("Content-Type: application/pkcs7-mime\n\nx", "encryption"),
        ("Content-Type: application/octet-stream; name=smime.p7m\n\nx", "encryption"),
        (multipart("mixed", "Content-Type: application/pkcs7-mime; name=smime.p7m\n\nx", "\nfooter"), "encryption"),
        ("Subject: x\n\n-----BEGIN PGP MESSAGE-----\n\nx", "encryption"),
        ("Subject: x\n\n-----BEGIN PGP SIGNED MESSAGE-----\n\nx", "signature"),
        (multipart("alternative", f"{TEXT}\n-----BEGIN PGP MESSAGE-----\n", HTML), "encryption"),
        (multipart("alternative", TEXT, f"{HTML}<pre>-----BEGIN PGP SIGNED MESSAGE-----"), "signature"),
        (INVITATION, "calendar invitation"),
        (multipart("alternative", TEXT, HTML, INVITATION), "calendar invitation"),
        (multipart("mixed", TEXT, INVITATION), "calendar invitation"),
        (multipart("alternative", TEXT, "Content-Type: text/calendar\n\nBEGIN:VCALENDAR"), "calendar invitation"),
        (multipart("report", TEXT, "Content-Type: message/delivery-status\n\nx: y"), "delivery report"),
        (multipart("report", multipart("signed", TEXT)), "delivery report"),
        (multipart("alternative", TEXT, "Content-Type: text/enriched\n\nx"), "alternative of another kind"),
        (multipart("mixed", TEXT, "Content-Type: application/ms-tnef; name=winmail.dat\n\nx"), "Outlook rich text"),
        ("Content-Type: application/vnd.ms-tnef\n\nx", "Outlook rich text"),
        (multipart("related", LOCATED_HTML, LOCATED), "image named by Content-Location"),
        (multipart("related", TEXT, LOCATED_HTML, LOCATED), "image named by Content-Location"),
        (multipart("related", f'{HTML}<td background = "a.png">', A_PNG), "image named by Content-Location"),
        (
            multipart("related", f"{HTML}<p style='background: url(&#97;.png)'>", A_PNG),
            "image named by Content-Location",
        ),
        ("Content-Type: message/partial; id=a; number=1; total=2\n\nx: y", "part of a message cut in pieces"),
        ("Content-Type: message/external-body; access-type=URL\n\nx: y", "reference to an external body"),
    ],
)
def test_what_json_would_lose_goes_in_mime(text: str, losses: str) -> None:
    message = read(text)
    sealed = losses in ("signature", "encryption")
    assert choose_form(message, "auto", save_to_sent=True) == Choice("mime", losses, not sealed)
    reason = f"{losses}; a copy stays in Sent Items"
    assert choose_form(message, "auto", save_to_sent=False) == Choice("mime", reason, not sealed)
    assert choose_form(message, "json", save_to_sent=False).form == "json"
    assert losses in message.not_carried


@pytest.mark.parametrize(
    "text",
    [
        "Subject: x\n\nhello",
        "",
        multipart("alternative", TEXT, HTML),
        multipart("mixed", TEXT, HTML),
        multipart("mixed", TEXT, "Content-Type: text/calendar; name=a.ics\n\nBEGIN:VCALENDAR"),
        multipart("mixed", TEXT, "Content-Type: application/pkcs7-mime; name=invoice.xml.p7m\n\nx"),
        multipart("mixed", TEXT, "Content-Type: application/octet-stream; name=a.bin\n\nx"),
        multipart("mixed", TEXT, "Content-Type: application/pgp-signature; name=a.asc\n\nx"),
        multipart("alternative", TEXT, HTML, "Content-Type: application/pdf; name=a.pdf\n\nx"),
        multipart("mixed", TEXT, "Content-Type: message/rfc822\n\nContent-Type: multipart/signed; boundary=c\n\n--c\n"),
        "Content-Type: application/pkcs7-mime; smime-type=certs-only\n\nx",
        multipart("related", HTML, LOCATED),
        multipart("mixed", LOCATED_HTML, LOCATED),
        multipart("related", f"{HTML}<img src=b.png> a.png", A_PNG),
        f"{SEVEN_HEADERS}List-Id: x\nAuto-Submitted: auto-generated\n\nx",
    ],
)
def test_what_json_can_carry_leaves_sent_items_alone(text: str) -> None:
    message = read(text)
    assert choose_form(message, "auto", save_to_sent=False) == Choice("json", "save_to_sent is off")
    assert choose_form(message, "auto", save_to_sent=True) == Choice("mime", "save_to_sent", json_will_do=True)


def test_a_form_that_is_asked_for() -> None:
    message = read("Subject: x\n\nhello")
    assert choose_form(message, "json", save_to_sent=True) == Choice("json", "graph_format")
    assert choose_form(message, "mime", save_to_sent=True) == Choice("mime", "graph_format")
    assert choose_form(message, "mime", save_to_sent=False).reason == "graph_format; a copy stays in Sent Items"
