# SPDX-License-Identifier: MIT
"""Header fields as octets: address lists, parameters and text written, and fields that came broken mended.

The other direction of headers.py and address.py (RFC 5322 §2.2, §3.4; RFC 2047; RFC 2231). All that is written is in
ASCII, but for a local part that is not, and folded under 998 octets a line where white space allows. Knows which
fields hold addresses and which parameters; knows nothing of the message around them. Nothing here raises, and all is
linear in its input.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

from relay.message.address import parse_address_list, with_ascii_domain
from relay.message.headers import decode_words, field_text, parse_parameters
from relay.message.model import Address

MAX_LINE = 998  # octets without CR LF, RFC 5322 §2.1.1
_FOLD_AT = 900  # of a line that is too long; the name of the field stands before the first
_WORD_OCTETS = 45  # of text in one encoded word: 60 characters of base64, under the 75 of RFC 2047 §2
_MAX_QUOTED = 200  # characters of a display name that is written as it is
_ODD = re.compile(rb"[\0\x80-\xff]|[^\r\n]{%d}|\r\n[ \t]*+(?:\r\n|\Z)" % _FOLD_AT)
_BLANK_FOLD = re.compile(rb"\r\n[ \t]*+(?=\r\n|\Z)")
_BLANK = re.compile(rb"[ \t]")
_NOT_BLANK = re.compile(rb"[^ \t]")
_CONTROLS = re.compile("[\x00-\x1f\x7f]+")
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")
_TOKEN = re.compile(r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+")
_PARAMETER_NAME = re.compile(r"[!#$&+.0-9A-Z^_`a-z{|}~-]+")
_ADDRESS_FIELDS = {
    *("from", "sender", "reply-to", "to", "cc", "resent-from", "resent-sender", "resent-reply-to", "return-receipt-to"),
    *("disposition-notification-to", "x-confirm-reading-to", "errors-to", "mail-followup-to", "mail-reply-to"),
}


def is_sound(header: bytes) -> bool:
    """Whether no field of a header, or the value of one field, needs mending."""
    lines = header.split(b"\r\n")
    plain = header.isascii() and header.find(b"\0") < 0 and all(map(bytes.strip, lines[1:]))
    if plain and max(map(len, lines)) < _FOLD_AT:
        return True  # the usual case, and the short way
    return _ODD.search(header) is None


def mended_value(name: str, raw: bytes) -> bytes:
    """The value of a field in ASCII, without NUL and blank lines, folded where it can be; what is sound stays."""
    if is_sound(raw):
        return raw
    raw = _BLANK_FOLD.sub(b"", raw.replace(b"\0", b""))
    if not raw.isascii():
        raw = b" " + _in_ascii(name.lower(), raw).strip()
    if len(name) + 1 + _longest_line(raw) > MAX_LINE:
        raw = folded(raw)
        if name.lower() == "subject" and _longest_line(raw) > MAX_LINE:  # not one blank in it
            raw = b" " + encoded_words(decode_words(field_text(raw)))
    return raw


def _in_ascii(key: str, raw: bytes) -> bytes:
    text = field_text(raw)
    if key in _ADDRESS_FIELDS and (addresses := parse_address_list(text)):
        return address_list(addresses)
    if key in ("content-type", "content-disposition"):
        value, parameters = parse_parameters(text)
        if parameters.get("boundary", "").isascii():
            return with_parameters(value, parameters)
        return raw  # its delimiters are not in ASCII either
    return _text(decode_words(text))


def _text(text: str) -> bytes:
    """Unstructured text: what is not ASCII as encoded words, from the first such word to the last."""
    words = text.split(" ")
    foreign = [number for number, word in enumerate(words) if not word.isascii() or "=?" in word]
    if not foreign:
        return text.encode("ascii")
    first, end = foreign[0], foreign[-1] + 1
    before, after = " ".join(words[:first]), " ".join(words[end:])
    return b" ".join(
        piece for piece in (before.encode(), encoded_words(" ".join(words[first:end])), after.encode()) if piece
    )


def encoded_words(text: str) -> bytes:
    """text as encoded words in UTF-8, one on each line (RFC 2047 §2). A character is not parted between two, §5."""
    octets = text.encode("utf-8", "replace")
    words: list[bytes] = []
    at = 0
    while at < len(octets):
        end = at + _WORD_OCTETS
        while end < len(octets) and octets[end] & 0xC0 == 0x80:
            end -= 1
        words.append(b"=?utf-8?B?%s?=" % binascii.b2a_base64(octets[at:end], newline=False))
        at = end
    return b"\r\n ".join(words)


def address_field(name: str, addresses: Sequence[Address]) -> bytes:
    """A field with its line end; nothing where there is no address."""
    if not addresses:
        return b""
    return b"%s: %s\r\n" % (name.encode("ascii"), address_list(addresses))


def address_list(addresses: Sequence[Address]) -> bytes:
    """The addresses with their display names, one on each line."""
    return b",\r\n ".join(map(_mailbox, addresses))


def _mailbox(address: Address) -> bytes:
    addr = with_ascii_domain(address.addr).encode("utf-8", "replace")  # the local part may need RFC 6532
    name = address.name and " ".join(_CONTROLS.sub(" ", address.name).split())
    if not name:
        return addr
    if not name.isascii() or "=?" in name or len(name) > _MAX_QUOTED:
        return encoded_words(name) + (b"\r\n <%s>" % addr)
    if not _PHRASE.fullmatch(name):
        name = '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'
    return b"%s <%s>" % (name.encode("ascii"), addr)


def with_parameters(value: str, parameters: Mapping[str, str]) -> bytes:
    """The value of Content-Type and the like. What is not ASCII is percent-encoded, RFC 2231 §4."""
    pieces = [value.encode("ascii", "replace")]
    for name, text in parameters.items():
        if not _PARAMETER_NAME.fullmatch(name):
            continue  # no parameter at all, and nothing could be said with it
        if not text.isascii():
            pieces.append(b"%s*=utf-8''%s" % (name.encode("ascii"), quote(text, safe="").encode("ascii")))
            continue
        text = _CONTROLS.sub("", text)
        if not _TOKEN.fullmatch(text):
            text = '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
        pieces.append(f"{name}={text}".encode("ascii"))
    return b";\r\n ".join(pieces)


def folded(raw: bytes) -> bytes:
    """raw with its lines over 900 octets cut at white space, where there is some (RFC 5322 §2.2.3)."""
    return b"\r\n".join(piece for line in raw.split(b"\r\n") for piece in _pieces(line))


def _pieces(line: bytes) -> Iterator[bytes]:
    """The line cut so that each piece but the first begins with white space, and none is blank."""
    at, text_end = 0, len(line.rstrip(b" \t"))
    while len(line) - at > _FOLD_AT and (text := _NOT_BLANK.search(line, at)):
        window = (text.end(), at + _FOLD_AT)
        cut = max(line.rfind(b" ", *window), line.rfind(b"\t", *window))
        if cut < 0:
            blank = _BLANK.search(line, max(window))
            cut = blank.start() if blank else text_end
        if cut >= text_end:
            break
        yield line[at:cut]
        at = cut
    yield line[at:]


def _longest_line(raw: bytes) -> int:
    return max(map(len, raw.split(b"\r\n")))
