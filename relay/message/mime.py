# SPDX-License-Identifier: MIT
"""Octets of a message → its leaf parts, and a leaf's octets decoded (RFC 2045, RFC 2046).

Knows MIME structure and transfer encodings, and how both come broken. Does not know what is a body and what an
attachment: that is parse.py. A part is a range of the octets that came, cut from above: a container's delimiters are
looked for inside its own range, so a missing end costs nothing, and the work is levels times octets at the most.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from typing import NamedTuple

from relay.base64text import decoded
from relay.message.headers import (
    Fields,
    View,
    field_text,
    in_utf8,
    is_ascii,
    parse_parameters,
    split_fields,
    without_comments,
)
from relay.message.lineends import without_line_ends
from relay.spool import IN_MEMORY_BYTES, WINDOW_BYTES, Octets, Spool, spooled, window_of

_MAX_DEPTH = 50  # containers in containers; what lies deeper is attached as it came
_MAX_LEAVES = 100_000  # what follows them is attached as it came
_DELIMITER_END = re.compile(rb"(--)?[ \t]*+(?:\r{0,2}\n|\r|\Z)")
_NEXT_LINE = re.compile(rb"[\r\n]")
_LIKELY_DELIMITER = re.compile(
    rb"--(?:(?<=[\r\n]--)|(?<=\A--))([^\s-][^\r\n]{0,200}|-[^\r\n]{1,200})\r{0,2}[\r\n](?=(?i:content-))"
)
_MEDIA_TYPE = re.compile(r"([a-z0-9!#$&^_.+-]{1,64})\s*/\s*([a-z0-9!#$&^_.+-]{1,127})(?![^\s;,(])")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]")
_WHITE_SPACE = b" \t\r\n\v\f"
_SOFT_BREAK_BLANKS = re.compile(rb"=[ \t]++(?=\r?\n|\Z)")
_SOFT_BREAK_IN_OCTET = re.compile(rb"=([0-9A-Fa-f])=\r?\n(?=[0-9A-Fa-f])")  # some encoders count no further
_SOFT_BREAK_CR = re.compile(rb"=\r(?!\r?\n)")
_BASE64_LINES = re.compile(rb"\s*+(?:[A-Za-z0-9+/]{40,}+[ \t]*+\r\n)++(?:[A-Za-z0-9+/]++={0,2}[ \t]*+(?:\r\n|\Z))?+")
_UU_BEGIN = re.compile(rb"(?:\A|(?<=[\r\n]))begin [0-7]{3,4} [^\r\n]*+(?:\r{0,2}\n|\r)")


class Container(NamedTuple):
    subtype: str  # of multipart/
    start: int  # where it begins: tells it from its like
    boundary: bytes  # the one that its delimiters really have


class Leaf(NamedTuple):
    """A part that holds no parts. octets: as they came, still transfer-encoded."""

    number: int  # of the leaf in the message, from 1
    media_type: str
    parameters: Mapping[str, str]
    disposition: str  # lower case; empty when there is none
    disposition_parameters: Mapping[str, str]
    content_id: str
    location: str  # Content-Location, by which HTML may refer to it (RFC 2557)
    encoding: str  # Content-Transfer-Encoding, lower case; empty when there is none
    containers: tuple[Container, ...]  # outermost first
    content: View  # the whole message
    start: int  # of the part's header, in the message
    body_start: int  # of its octets
    end: int

    @property
    def size(self) -> int:
        """How many octets there are, as they came."""
        return self.end - self.body_start

    @property
    def octets(self) -> bytes:
        """As they came, still transfer-encoded: a copy."""
        return self.content[self.body_start : self.end]


class Structure(NamedTuple):
    leaves: list[Leaf]
    containers: list[str]  # media types of all multiparts that were opened
    warnings: list[str]
    charsets: list[str]  # that of the first text part to name one

    @property
    def charset(self) -> str:
        """The one that the first text part to name one names."""
        return self.charsets[0] if self.charsets else ""


def split_parts(content: View, header: Fields) -> Structure:
    """All leaves of a message in order. header: the message's own, as split_fields gave it."""
    structure = Structure([], [], [], [])
    _split_entity(content, header, 0, len(content), "text/plain", (), structure)
    return structure


def _split_entity(
    content: View,
    header: Fields,
    start: int,
    end: int,
    default_type: str,
    containers: tuple[Container, ...],
    structure: Structure,
) -> None:
    found = _first_values(header, structure)
    media_type, parameters = _media_type(found.get("content-type", ""), default_type)
    if media_type.startswith("multipart/"):
        if len(containers) >= _MAX_DEPTH:
            structure.warnings.append("parts are nested too deep: the inner ones are attached as one")
            _attach_as_it_came(content, start, end, containers, structure)
            return
        sections, boundary = _sections_of(content, header.body_start, end, parameters.get("boundary", ""), structure)
        if sections:
            inner = (*containers, Container(media_type.removeprefix("multipart/"), start, boundary))
            inner_default = "message/rfc822" if media_type == "multipart/digest" else "text/plain"
            structure.containers.append(media_type)
            for part_start, part_end in sections:
                if len(structure.leaves) >= _MAX_LEAVES:
                    structure.warnings.append("there are too many parts: the last ones are attached as one")
                    _attach_as_it_came(content, part_start, end, inner, structure)
                    return
                part_header = split_fields(content, part_start, part_end, is_message=False)
                _split_entity(content, part_header, part_start, part_end, inner_default, inner, structure)
            return
        structure.warnings.append("a multipart holds no part: its text is taken as it stands")
        media_type, parameters, found = "text/plain", {}, {}
    place = (content, start, header.body_start, end)
    structure.leaves.append(_leaf(structure, found, media_type, parameters, containers, place))


def _attach_as_it_came(
    content: View, start: int, end: int, containers: tuple[Container, ...], structure: Structure
) -> None:
    found = {"content-disposition": "attachment; filename=message-part.eml"}
    place = (content, start, start, end)
    structure.leaves.append(_leaf(structure, found, "message/rfc822", {}, containers, place))


def _leaf(
    structure: Structure,
    found: Mapping[str, str],
    media_type: str,
    parameters: Mapping[str, str],
    containers: tuple[Container, ...],
    place: tuple[View, int, int, int],
) -> Leaf:
    if not structure.charsets and media_type.startswith("text/") and (charset := parameters.get("charset")):
        structure.charsets.append(charset)
    written = found.get("content-disposition")
    disposition, disposition_parameters = parse_parameters(written) if written else ("", {})
    return Leaf(
        len(structure.leaves) + 1,
        media_type,
        parameters,
        disposition.partition("(")[0].strip(),
        disposition_parameters,
        found.get("content-id", "").strip(" <>\t"),
        found.get("content-location", ""),
        without_comments(found.get("content-transfer-encoding", "").lower()).partition("(")[0].strip(" \t;\"'"),
        containers,
        *place,
    )


def _first_values(header: Fields, structure: Structure) -> dict[str, str]:
    """The Content- fields by lower-case name; the first of two wins."""
    if structure.leaves and not is_ascii(header):
        header = in_utf8(header, structure.charset)
    found: dict[str, str] = {}
    for name, raw in header.fields:
        if name[0] in "Cc" and (key := name.lower()).startswith("content-") and key not in found:
            found[key] = field_text(raw)
    return found


def _media_type(text: str, default: str) -> tuple[str, Mapping[str, str]]:
    """Media type in lower case and parameters; what is no media type is text/plain, RFC 2045 §5.2."""
    if not text:
        return default, {}
    value, parameters = parse_parameters(text)
    if known := _MEDIA_TYPE.match(value):
        return f"{known[1]}/{known[2]}", parameters
    return "application/octet-stream" if "name" in parameters else "text/plain", parameters


def _sections_of(
    content: View, start: int, end: int, declared: str, structure: Structure
) -> tuple[list[tuple[int, int]], bytes]:
    """The ranges of a container's parts, by the declared boundary, else by the one that stands there; and that one."""
    boundary = b""
    sections: list[tuple[int, int]] = []
    closed = False
    # In single quotation marks it is no quoted string, and a backslash may be one of a quoted pair (RFC 5322 §3.2.1).
    for written in dict.fromkeys((declared.rstrip(), declared.strip("' "), declared.replace("\\", ""))):
        if written and not sections:
            boundary = written.encode()
            sections, closed = _find_sections(content, start, end, b"--" + boundary)
    if not sections and (likely := _LIKELY_DELIMITER.search(content, start, end)):
        structure.warnings.append("a multipart does not name its own boundary: taken from the text")
        boundary = likely[1].rstrip()
        sections, closed = _find_sections(content, start, end, b"--" + boundary)
    if sections and not closed:
        structure.warnings.append("a multipart has no end")
    return sections, boundary


def _find_sections(content: View, start: int, end: int, delimiter: bytes) -> tuple[list[tuple[int, int]], bool]:
    """The ranges between the delimiter lines (RFC 2046 §5.1.1), and whether the closing one was there.

    Parts behind a closing delimiter are taken too: senders put a multipart into one with the same boundary.
    """
    sections: list[tuple[int, int]] = []
    opened: int | None = None
    at = _find(content, delimiter, start, end)
    while at >= 0:
        after = at + len(delimiter)
        line_end = _DELIMITER_END.match(content, after, end)
        if line_end and (at == start or content[at - 1] in b"\r\n"):
            if opened is not None:
                sections.append((opened, _without_line_end(content, opened, at)))
            after = line_end.end()
            opened = None if line_end[1] else after
        elif next_line := _NEXT_LINE.search(content, after, end):
            after = next_line.end()
        else:
            break
        at = _find(content, delimiter, after, end)
    if opened is not None:
        sections.append((opened, end))
    return [found for found in sections if found[0] < found[1]] or sections[:1], opened is None


def _find(content: View, sought: bytes, start: int, end: int) -> int:
    """As bytes.find() does; in a large message piece by piece, since a map's own is slow and lets nobody else work."""
    if isinstance(content, bytes):
        return content.find(sought, start, end)
    size = 1024
    while start < end:
        window = window_of(content, start, min(start + size + len(sought) - 1, end))
        if (found := window.find(sought)) >= 0:
            return start + found
        start, size = start + size, min(size * 2, WINDOW_BYTES)
    return -1


def _without_line_end(content: View, start: int, end: int) -> int:
    """The line end before a delimiter belongs to the delimiter, RFC 2046 §5.1.1."""
    if end - 2 >= start and content[end - 2 : end] == b"\r\n":
        return end - 2
    return end - 1 if end > start else end


def decode_leaf(leaf: Leaf) -> Octets | None:
    """The leaf's octets without their Content-Transfer-Encoding, or None when they cannot be decoded."""
    if leaf.size > IN_MEMORY_BYTES and leaf.encoding == "base64":
        in_pieces = _decode_base64_in_pieces(leaf)
        if in_pieces is not None:
            return in_pieces
    octets = decode_octets(leaf.octets, leaf.encoding)
    return None if octets is None else spooled(octets)


def _decode_base64_in_pieces(leaf: Leaf) -> Octets | None:
    """None where it is not as it should be: for _decode_base64()."""
    spool = Spool()
    held = b""
    for at in range(leaf.body_start, leaf.end, WINDOW_BYTES):
        held += _without_white_space(window_of(leaf.content, at, min(at + WINDOW_BYTES, leaf.end)))
        last = at + WINDOW_BYTES >= leaf.end
        groups = held if last else held[: len(held) // 4 * 4]
        if b"=" in groups and not last:
            return None
        try:
            spool.append(decoded(groups))
        except binascii.Error:
            return None
        held = held[len(groups) :]
    return spool.finish()


def decode_octets(octets: bytes, encoding: str) -> bytes | None:
    """octets without their Content-Transfer-Encoding (RFC 2045 §6), or None when they cannot be decoded."""
    if encoding in ("", "7bit", "8bit", "binary", "7-bit", "8-bit"):
        return octets
    if encoding == "base64":
        return _decode_base64(octets)
    if encoding == "quoted-printable":
        return _decode_quoted_printable(octets)
    if encoding in ("x-uuencode", "uuencode", "x-uue", "uue"):
        return _decode_uuencode(octets)
    return None


def _decode_base64(octets: bytes) -> bytes | None:
    octets = _without_white_space(octets)
    try:
        return decoded(octets)
    except binascii.Error:
        pass  # padding is missing or in the middle, or it is no base64 at all
    chunks = [chunk for chunk in octets.split(b"=") if chunk]
    if any(len(chunk) % 4 == 1 or _NOT_BASE64.search(chunk) for chunk in chunks):
        return None
    return b"".join(binascii.a2b_base64(chunk + b"=" * (-len(chunk) % 4)) for chunk in chunks)


def decode_broken_base64(octets: bytes) -> bytes | None:
    """Text in base64 that is cut off, or that has something else behind it (a mailing list's footer), which stays."""
    lines = _BASE64_LINES.match(octets)
    end = lines.end() if lines else len(octets)
    found = _decode_base64(octets[:end])
    if found is None:
        found = _decode_base64(octets[:end].rstrip()[:-1])
    return found if found is None or end == len(octets) else found + b"\r\n" + octets[end:]


def _without_white_space(octets: bytes) -> bytes:
    """In base64 it is mostly line ends alone."""
    octets = without_line_ends(octets)
    return octets.translate(None, _WHITE_SPACE) if any(white in octets for white in _WHITE_SPACE) else octets


def _decode_quoted_printable(octets: bytes) -> bytes:
    octets = _SOFT_BREAK_BLANKS.sub(b"=", octets)  # RFC 2045 §6.7 rule 3: blanks at the end of a line are not text
    octets = _SOFT_BREAK_IN_OCTET.sub(rb"=\1", octets)
    octets = _SOFT_BREAK_CR.sub(b"", octets)  # binascii drops all text from "=" CR to the next LF
    return binascii.a2b_qp(octets)


def _decode_uuencode(octets: bytes) -> bytes | None:
    begin = _UU_BEGIN.search(octets)
    if not begin:
        return None
    lines: list[bytes] = []
    for line in octets[begin.end() :].splitlines():
        if line.strip() == b"end":
            break
        if not line.strip():
            continue
        try:
            lines.append(binascii.a2b_uu(line))
        except binascii.Error:
            length = (((line[0] - 32) & 63) * 4 + 5) // 3  # many encoders write a wrong last group
            try:
                lines.append(binascii.a2b_uu(line[:length]))
            except binascii.Error:
                return None
    return b"".join(lines)
