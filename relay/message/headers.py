# SPDX-License-Identifier: MIT
"""Octets → header fields, and what stands in them: encoded words and parameters (RFC 5322 §2.2, RFC 2047, RFC 2231).

Works on octets, since a header may hold anything: raw 8-bit, NUL, lines without a colon. Knows the syntax of header
fields in general, not what any field means; address lists are in address.py. Every function here is linear in its
input and never raises. Python's own parsers are not used: what they make of odd input differs by their version.
"""

from __future__ import annotations

import binascii
import mmap
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from relay.message.charset import decode_text, find_codec

# As numbers: to look for octets in octets, Python first takes them for a number, and what it raises then costs more.
_NUL, _LF, _CR, _ESC = b"\0\n\r\x1b"
_EOL = rb"(?:\r{0,2}\n|\r)"  # CR CR LF comes from a line end converted twice
_LINE_END = re.compile(_EOL)
# Always matches. An indent counts where the second line has none: else the whole header would be one folded field.
_BEFORE_HEADER = re.compile(rb"(?:\xef\xbb\xbf)?(?:(?:" + _EOL + rb")++|[ \t]++(?=[^\r\n]*+(?>" + _EOL + rb")[^ \t]))?")
_LINE = re.compile(rb"([^\r\n]*+)(?:" + _EOL + rb"|\Z)")
_FIELD = re.compile(rb"([!-9;-~]++)[ \t]*+:((?:[^\r\n]*+)(?:" + _EOL + rb"[ \t][^\r\n]*+)*+)(?:" + _EOL + rb"|\Z)")
_FOLD = re.compile(_EOL + rb"[ \t]?")
_NEXT_FIELD = re.compile(rb"\r\n(?![ \t])")
_MAX_PLAIN = 65_536  # octets; a longer header is read line by line
# Where the blank line between header and body was forgotten, a multipart's first delimiter is no rest of a field.
_DELIMITER = re.compile(rb"--[^\r\n]*+" + _EOL + rb"(?i:content-)")
_MBOX_LINE = re.compile(rb">?From [^\r\n]*+" + _EOL)
_USUAL_FIELD = re.compile(
    rb"(?i:from|to|cc|bcc|subject|date|sender|reply-to|message-id|in-reply-to|references|received|return-path"
    rb"|mime-version|content-[a-z-]+|x-[!-9;-~]+|importance|sensitivity|priority|precedence|auto-submitted"
    rb"|list-[a-z-]+|resent-[a-z-]+|thread-[a-z]+|dkim-signature|domainkey-signature|arc-[a-z-]+|authentication-results"
    rb"|disposition-notification-to|return-receipt-to|errors-to|delivered-to|user-agent|organization|keywords|comments)"
    rb"[ \t]*+:"
)
_WORD_START = re.compile(r"=\?([^?\s]*)\?([bBqQ])\?")
_BASE64_WORD = re.compile(r"([A-Za-z0-9+/]*+)={0,3}")
_Q_OCTET = re.compile(rb"=([0-9A-Fa-f]{2})")
_LINE_BREAKS = re.compile(r"[\r\n]+")
_MAX_ENCODED = 1_000_000  # characters; an attack, not a header: left as it stands
_MAX_PARAMETERS = 65_536  # characters; what is behind them is an attack on our time
_SEGMENT = re.compile(r'(?:[^;"]++|"(?:[^"\\]++|\\.)*+(?:"|\\?\Z))++', re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"\\]++|\\.)*+)', re.DOTALL)
_QUOTED_PAIR = re.compile(r'\\(["\\])')  # any other backslash comes from a Windows path
_COMMENTS = re.compile(r"(?:\s*+\((?:[^()\\]++|\\.)*+\))++\s*+", re.DOTALL)  # RFC 5322 §3.2.2
_CONTINUED = re.compile(r"([^*]+)\*(?:(\d{1,5})(\*?))?\Z")


View = bytes | mmap.mmap  # of a message as a whole


class Fields(NamedTuple):
    """The header of a message or a part. fields: name and raw value (folded, undecoded), in order."""

    fields: list[tuple[str, bytes]]
    body_start: int  # index into the octets that were given
    mended: bool  # a line without a colon stood between the fields


def split_fields(octets: View, start: int = 0, end: int | None = None, *, is_message: bool = True) -> Fields:
    """The header fields in octets[start:end] and where the body begins.

    A first line that is no header field means that there is no header and all is body (copiers do this); so does a
    "header" of unusual names without the blank line behind it. A line without a colon is taken as the rest of the
    field above when a usual field follows it, and it is no delimiter; else the body starts there (the blank line was
    forgotten).
    is_message: skip an mbox "From " line, and blank lines, a byte order mark or an indent before a usual field, as
    scripts send them that read a message from a file; in a part these are content.
    """
    end = len(octets) if end is None else end
    if plain := _plain_header(octets, start, end):
        return plain
    at = _skip_to_header(octets, start, end) if is_message else start
    fields: list[tuple[str, bytes]] = []
    usual = mended = separated = False
    while at < end:
        if field := _FIELD.match(octets, at, end):
            usual = usual or _USUAL_FIELD.match(octets, at, end) is not None
            fields.append((field[1].decode("ascii"), field[2]))
            at = field.end()
        elif blank := _LINE_END.match(octets, at, end):
            at, separated = blank.end(), True
            break
        else:
            line = _LINE.match(octets, at, end)
            if not fields or line is None or not _USUAL_FIELD.match(octets, line.end(), end):
                break
            if _DELIMITER.match(octets, at, end):
                break
            fields[-1] = (fields[-1][0], fields[-1][1] + b" " + line[1])
            at, mended = line.end(), True
    if fields and not usual and not separated:
        return Fields([], start, False)
    return Fields(fields, at, mended)


def _plain_header(octets: View, start: int, end: int) -> Fields | None:
    """The header in the form that nearly all have: CR LF, names of letters, digits and hyphens, a blank line behind."""
    header_end = octets.find(b"\r\n\r\n", start, min(end, start + _MAX_PLAIN))
    if header_end < 0:
        return None
    header = octets[start:header_end]
    text = header.replace(b"\r\n", b"")
    if _LF in text or _CR in text:
        return None
    fields: list[tuple[str, bytes]] = []
    for field in _NEXT_FIELD.split(header):
        name, colon, raw = field.partition(b":")
        if not colon or not name.replace(b"-", b"").isalnum():
            return None
        fields.append((name.decode("ascii"), raw))
    return Fields(fields, header_end + 4, False)


def _skip_to_header(octets: View, start: int, end: int) -> int:
    before = _BEFORE_HEADER.match(octets, start, end)
    at = before.end() if before else start
    if mbox := _MBOX_LINE.match(octets, at, end):
        return mbox.end()
    return at if _USUAL_FIELD.match(octets, at, end) else start


def field_text(raw: bytes) -> str:
    """The value of a field: unfolded, without NUL; raw 8-bit is UTF-8, else Windows-1252. Encoded words stay.

    Raw ISO-2022-JP is in seven bits, and told by its escapes.
    """
    if _LF in raw or _CR in raw:
        raw = _FOLD.sub(b" ", raw.strip())
    if raw.isascii() and _NUL not in raw and _ESC not in raw:  # the usual case, and the short way
        return raw.decode("ascii").strip()
    return decode_text(raw.strip(), None)[0].strip()


def is_ascii(header: Fields) -> bool:
    """Whether no value holds a raw 8-bit octet."""
    return all(raw.isascii() for _, raw in header.fields)


def in_utf8(header: Fields, charset: str) -> Fields:
    """The header with raw 8-bit values in UTF-8 where they are in this charset, the one of the body, and not in UTF-8.

    Programs that encode no header write it as they write the body.
    """
    if decode_text(b"a", charset)[0] != "a":
        return header  # in UTF-16 nobody writes a header
    return header._replace(fields=[(name, _value_in_utf8(raw, charset)) for name, raw in header.fields])


def _value_in_utf8(raw: bytes, charset: str) -> bytes:
    if raw.isascii() or decode_text(raw, None)[1]:
        return raw
    text, is_certain = decode_text(raw, charset)
    return text.encode() if is_certain else raw


def decode_words(text: str) -> str:
    """text with its encoded words decoded (RFC 2047), on one line; invalid ones stay as they are.

    Lenient: words glued to text, blanks inside a word, missing padding, a language after the charset (RFC 2231 §5),
    a character split between two words.
    """
    if "=?" not in text or len(text) > _MAX_ENCODED:
        return text
    pieces: list[str] = []
    run: list[tuple[str | None, bytes]] = []  # adjacent words, decoded together
    done = word_end = 0
    for start in _WORD_START.finditer(text):
        if start.start() < done:
            continue
        if word_end < start.end():
            word_end = text.find("?=", start.end())
        if word_end < 0:
            break
        if _WORD_START.search(text, start.end(), word_end):
            continue  # this one has no end of its own
        octets = _word_octets(start[2], text[start.end() : word_end], start[1])
        if octets is None:
            continue
        between = text[done : start.start()]
        if between.strip() or not run:  # white space between two words is not part of the text, RFC 2047 §6.2
            pieces += (_decode_run(run), between)
            run = []
        run.append((start[1].partition("*")[0], octets))
        done = word_end + 2
    pieces += (_decode_run(run), text[done:])
    return _LINE_BREAKS.sub(" ", "".join(pieces))


def _word_octets(encoding: str, text: str, charset: str) -> bytes | None:
    if encoding in "bB":
        word = _BASE64_WORD.fullmatch("".join(text.split()))
        if not word or len(word[1]) % 4 == 1:
            return None
        return binascii.a2b_base64(word[1] + "=" * (-len(word[1]) % 4))
    try:
        octets = text.encode("ascii" if text.isascii() else find_codec(charset.partition("*")[0]) or "utf-8")
    except UnicodeError:
        return None
    return _Q_OCTET.sub(lambda octet: bytes([int(octet[1], 16)]), octets.replace(b"_", b" "))


def _decode_run(run: list[tuple[str | None, bytes]]) -> str:
    joined: list[tuple[str | None, list[bytes]]] = []
    for charset, octets in run:
        if joined and find_codec(joined[-1][0]) == find_codec(charset):
            joined[-1][1].append(octets)
        else:
            joined.append((charset, [octets]))
    return "".join(decode_text(b"".join(octets), charset)[0] for charset, octets in joined)


def parse_parameters(text: str) -> tuple[str, Mapping[str, str]]:
    """The main value in lower case and the parameters of Content-Type and the like, by lower-case name.

    Continuations and charsets by RFC 2231, which go before a plain value of the same name; the first of two wins.
    File names are decoded also where a sender put encoded words there, against RFC 2047 §5.
    """
    text = without_comments(text[:_MAX_PARAMETERS])
    pieces_of_text = _SEGMENT.findall(text) if '"' in text else text.lstrip(";").split(";")
    segments = [piece.strip() for piece in pieces_of_text]
    value = segments.pop(0) if segments else ""
    if "=" in value:  # the semicolon was forgotten, or there is no main value at all
        segments.insert(0, value)
        value = ""
        word, _, rest = segments[0].partition(" ")
        if "=" not in word:
            value, segments[0] = word, rest
    plain: dict[str, str] = {}
    pieces: dict[str, dict[int, tuple[str, bool]]] = {}
    for segment in segments:
        name, equals, raw = without_comments(segment).partition("=")
        name = name.partition("(")[0].strip().lower()
        if not equals or not name:
            continue
        if "*" in name and (continued := _CONTINUED.match(name)):
            number, extended = int(continued[2] or 0), continued[2] is None or continued[3] == "*"
            pieces.setdefault(continued[1], {}).setdefault(number, (_unquote(raw.strip()), extended))
        else:
            plain.setdefault(name, _unquote(raw.strip()))
    for name, numbered in pieces.items():
        plain[name] = _join_continuations(numbered)
    for name in ("name", "filename"):
        if name in plain:
            plain[name] = decode_words(plain[name])
    return value.lower(), plain


def without_comments(text: str) -> str:
    """text without the comments that stand at its beginning."""
    comments = _COMMENTS.match(text) if "(" in text else None
    return text[comments.end() :] if comments else text


def _unquote(raw: str) -> str:
    if raw.startswith("(") and (behind := without_comments(raw)).startswith('"'):
        raw = behind  # while "(1).pdf" is a name that lacks its quotation marks
    if not raw.startswith('"'):
        return raw
    if len(raw) > 1 and raw.endswith('"'):
        inner = raw[1:-1]  # quotes inside that nobody escaped are part of the name
    else:
        quoted = _QUOTED.match(raw)
        inner = quoted[1] if quoted else raw[1:]
    return _QUOTED_PAIR.sub(r"\1", inner) if "\\" in inner else inner


def _join_continuations(numbered: Mapping[int, tuple[str, bool]]) -> str:
    charset = ""
    octets: list[bytes] = []
    for position, number in enumerate(sorted(numbered)):  # a gap in the numbers is no reason to lose the rest
        value, extended = numbered[number]
        if not extended:
            octets.append(value.encode())
            continue
        if position == 0 and value.count("'") >= 2:
            charset, _, value = value.split("'", 2)
        octets.append(unquote_to_bytes(value))
    return decode_text(b"".join(octets), charset)[0]
