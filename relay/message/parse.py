# SPDX-License-Identifier: MIT
"""Octets of mail data → Message: what is body, what attachment, what the header says (RFC 5322, RFC 2046).

Decides what each part is for. Does not know Graph nor the envelope. Nothing is dropped in silence: what the JSON form
has no place for is named in other_headers and not_carried, what was mended in warnings, never with its contents.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple
from urllib.parse import unquote

from relay.message.address import parse_address_list
from relay.message.charset import decode_text
from relay.message.form import TEXT_ALTERNATIVE, lost_in_json
from relay.message.headers import Fields, View, decode_words, field_text, in_utf8, is_ascii, split_fields
from relay.message.htmltext import shows_something
from relay.message.lineends import normalised
from relay.message.mime import Leaf, Structure, decode_broken_base64, decode_leaf, decode_octets, split_parts
from relay.message.model import Address, Attachment, Body, Message, MessageError
from relay.message.names import clean_name, made_up_name, message_name
from relay.spool import Octets, view_of

Importance = Literal["low", "normal", "high"]

_WORDS: Mapping[str, Importance] = {
    **dict.fromkeys(("highest", "high", "urgent"), "high"),
    **dict.fromkeys(("lowest", "low", "non-urgent"), "low"),
    "normal": "normal",
}
_IMPORTANCE: Mapping[str, Mapping[str, Importance]] = {  # by field, the one that counts most first
    "importance": _WORDS,
    "x-priority": {**_WORDS, "1": "high", "2": "high", "3": "normal", "4": "low", "5": "low"},
    "x-msmail-priority": _WORDS,
    "priority": _WORDS,
}
_ONCE = ("subject", "from", "sender", "message-id", "in-reply-to", "references")
_READ = {
    *_ONCE,
    *_IMPORTANCE,
    *("reply-to", "to", "cc", "disposition-notification-to", "x-confirm-reading-to", "return-receipt-to"),
}
_ONCE_UNREAD = {  # of which the MIME form keeps the first alone
    *("date", "mime-version", "content-type", "content-transfer-encoding", "content-disposition", "content-id"),
}
_UNNAMED = {  # neither carried nor named as missing
    *("bcc", "resent-bcc", "mime-version", "content-type", "content-transfer-encoding", "content-disposition"),
    *("content-id", "content-length", "content-md5"),
}
_EMPTY = Body("text", "")
_CID_REFERENCE = re.compile(r"""[cC][iI][dD]:([^\s"'<>)]+)""")
# What an HTML page shows in itself: <img src=…>, background=…, url(…).
_SHOWN = re.compile(r"""(?i:\b(?:src|background)\s{0,9}=|\burl\()\s{0,9}(?:"([^"]*+)"|'([^']*+)'|([^\s"'<>)]++))""")
_MOST_READ = 100  # fields of one kind; more are an attack on our time, and are there by name alone
_APART = re.compile(r"[^a-z0-9-]+")
_ID = re.compile(r"<[^<>]++>")
_META_WITHIN = 4096  # octets; browsers look at 1,024, Outlook's style sheets may come first
_META_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE)


def read(content: Octets, *, strict_attachments: bool) -> tuple[Octets, Message]:
    """content with CR LF everywhere, and what parse() makes of it."""
    content = normalised(content)
    return content, parse(view_of(content), strict_attachments=strict_attachments)


def parse(content: View, *, strict_attachments: bool) -> Message:
    """The message in content, decoded as well as can be.

    strict_attachments: raise MessageError when an attachment cannot be decoded; else it is taken as it came, with a
    warning. Nothing else raises, whatever the octets are.
    """
    header = split_fields(content)
    structure = split_parts(content, header)
    parts = _Parts(structure, strict_attachments)
    parts.choose_body()
    parts.collect_attachments()
    if header.mended:
        parts.warnings.append("a header line has no colon: taken as the rest of the line above")
    if is_ascii(header):
        return _read_header(header, parts)
    charset = structure.charset
    return _read_header(in_utf8(header, charset), parts)._replace(header_charset=charset)


@dataclass(slots=True)
class _Parts:
    """Sorts the leaves of one message into the body and attachments."""

    structure: Structure
    strict: bool
    body: Body = _EMPTY
    attachments: list[Attachment] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    not_carried: list[str] = field(default_factory=list)
    _beside_body: set[int] = field(default_factory=set)  # numbers of the text parts that become attachments
    _texts: dict[int, tuple[str, bool]] = field(default_factory=dict)  # of the candidates, and whether it is certain

    def choose_body(self) -> None:
        """HTML goes before text; text that is the HTML's alternative is left out; other text is attached.

        HTML that shows nothing does not hide a text: it counts as blank beside one.
        """
        self.warnings += self.structure.warnings
        candidates = [leaf for leaf in self.structure.leaves if self._may_be_body(leaf)]
        for leaf in candidates:
            self._texts[leaf.number] = self._text_of(leaf)
        if len(candidates) == 1:  # nothing to choose
            text = self._texts[candidates[0].number][0]
            is_html = candidates[0].media_type == "text/html" and text.strip()
            self.body = Body("html" if is_html else "text", text)
            return
        texts = {number: text for number, (text, _) in self._texts.items()}
        filled = [leaf for leaf in candidates if texts[leaf.number].strip()]
        if any(leaf.media_type == "text/plain" for leaf in filled):
            filled = [leaf for leaf in filled if leaf.media_type == "text/plain" or shows_something(texts[leaf.number])]
        chosen = next((leaf for leaf in filled if leaf.media_type == "text/html"), None)
        if chosen is None:
            parts = [texts[leaf.number] for leaf in filled] or list(texts.values())[:1]
            ends = [part.rstrip("\r\n") for part in parts[:-1]]
            self.body = Body("text", "\r\n\r\n".join([*ends, *parts[-1:]]))
            return
        self.body = Body("html", texts[chosen.number])
        for leaf in filled:
            if leaf.media_type == "text/plain" and _are_alternatives(leaf, chosen):
                self.not_carried.append(TEXT_ALTERNATIVE)
            elif leaf is not chosen:
                self._beside_body.add(leaf.number)

    def _may_be_body(self, leaf: Leaf) -> bool:
        if leaf.media_type not in ("text/plain", "text/html") or leaf.disposition not in ("", "inline"):
            return False
        if not leaf.containers or not _given_name(leaf):
            return True
        innermost = leaf.containers[-1]  # it may say that this is text to read and no file, whatever its name
        is_first = leaf.number == 1 or innermost not in self.structure.leaves[leaf.number - 2].containers
        return innermost.subtype == "alternative" or (innermost.subtype == "related" and is_first)

    def _text_of(self, leaf: Leaf) -> tuple[str, bool]:
        octets = decode_octets(leaf.octets, leaf.encoding)
        if octets is None and leaf.encoding == "base64":
            octets = decode_broken_base64(leaf.octets)
            if octets is not None:
                self._warn(leaf, "cannot be decoded to its end")
        if octets is None:
            self._warn(leaf, "cannot be decoded: taken as it stands")
            octets = leaf.octets
        text, certain = decode_text(octets, charset_of(leaf, octets))
        if not certain:
            self._warn(leaf, "is not in the charset it names, or names none: guessed")
        return text, certain

    def _warn(self, leaf: Leaf, fault: str) -> None:
        self.warnings.append(f"part {leaf.number} ({leaf.media_type}) {fault}")

    def collect_attachments(self) -> None:
        """All leaves but the body and its alternatives, in order. After choose_body()."""
        referenced = self._referenced_content_ids()
        texts = 0
        for leaf in self.structure.leaves:
            if leaf.number in self._beside_body:
                texts += 1
                extension = "htm" if leaf.media_type == "text/html" else "txt"
                self._attach(leaf, f"ATT{texts:05}.{extension}", referenced)  # as Exchange names them
            elif leaf.number not in self._texts:
                self._attach(leaf, clean_name(_given_name(leaf)), referenced)
        if self._shows_by_location():
            self.not_carried.append("image named by Content-Location")
        self.not_carried += lost_in_json(self.structure, [text for text, _ in self._texts.values()])

    def _attach(self, leaf: Leaf, name: str, referenced: set[str]) -> None:
        octets: Octets | None = None
        if not leaf.media_type.startswith("message/") or leaf.encoding in ("base64", "quoted-printable"):
            octets = decode_leaf(leaf)
            if octets is None and self.strict:
                raise MessageError(f"the attachment in part {leaf.number} cannot be decoded")
            if octets is None:
                self._warn(leaf, "cannot be decoded: attached as it came")
        if octets is None:
            octets = leaf.octets
        if leaf.number in self._beside_body:
            octets = _in_utf8(leaf, bytes(octets), *self._texts[leaf.number])
        if not name and leaf.media_type in ("message/rfc822", "message/global"):
            name = message_name(_subject(split_fields(view_of(octets))))
        name = name or made_up_name(leaf.media_type, leaf.content_id, len(self.attachments) + 1)
        inline = self._is_inline(leaf, referenced)
        self.attachments.append(Attachment(name, leaf.media_type, octets, inline, leaf.content_id))

    def _is_inline(self, leaf: Leaf, referenced: set[str]) -> bool:
        if not leaf.content_id or self.body.kind != "html":
            return False
        if leaf.content_id in referenced:
            return True
        if not leaf.media_type.startswith("image/"):
            return False  # nothing shows it, and Outlook would hide it
        return leaf.disposition == "inline" or (_is_related(leaf) and not leaf.disposition)

    def _referenced_content_ids(self) -> set[str]:
        if self.body.kind != "html" or not any(leaf.content_id for leaf in self.structure.leaves):
            return set()
        found = {html.unescape(match[1]) for match in _CID_REFERENCE.finditer(self.body.content)}
        return found | {unquote(content_id) for content_id in found}  # a cid: URL is percent-encoded, RFC 2392 §2

    def _shows_by_location(self) -> bool:
        """Whether the HTML shows one of the parts as a web page would, by its address (RFC 2557 §8)."""
        named = {leaf.location for leaf in self.structure.leaves if leaf.location and _is_related(leaf)}
        if not named or self.body.kind != "html":
            return False
        return any(html.unescape(match[match.lastindex or 0]) in named for match in _SHOWN.finditer(self.body.content))


def charset_of(leaf: Leaf, octets: bytes) -> str:
    """The charset that the part names, or else that its HTML names, where that one is not plainly wrong."""
    charset = leaf.parameters.get("charset", "").partition("(")[0].strip(" '")
    if charset or leaf.media_type != "text/html":
        return charset
    meta = _META_CHARSET.search(octets, 0, _META_WITHIN)
    if not meta or meta[1].lower().startswith(b"utf"):
        return ""  # one that can be read before it is known is no UTF-16, and UTF-8 is tried anyway
    certain = decode_text(octets, None)[1]
    return "" if certain and not octets.isascii() else meta[1].decode("ascii")


def _in_utf8(leaf: Leaf, octets: bytes, text: str, certain: bool) -> bytes:
    """The octets of a text part that becomes a file, which has no place for its charset: in UTF-8 if they were not."""
    try:
        if not certain or octets.decode("utf-8").removeprefix("\ufeff") == text:
            return octets
    except UnicodeError:
        pass
    return text.encode("utf-8-sig" if leaf.media_type == "text/html" else "utf-8")  # the mark outdoes a meta element


def _is_related(leaf: Leaf) -> bool:
    return any(container.subtype == "related" for container in leaf.containers)


def _given_name(leaf: Leaf) -> str:
    return leaf.disposition_parameters.get("filename") or leaf.parameters.get("name") or ""


def _are_alternatives(one: Leaf, other: Leaf) -> bool:
    """Whether the innermost container that holds both says: show one of them (RFC 2046 §5.1.4)."""
    common = [a for a, b in zip(one.containers, other.containers, strict=False) if a == b]
    return bool(common) and common[-1].subtype == "alternative"


class _Values(NamedTuple):
    """What stands in the fields of a header, and which it has beside those that are read. Names are in lower case."""

    first: dict[str, str]  # of the fields that are read, the first of each name
    more: dict[str, list[str]]  # those of that name behind it
    x_headers: list[tuple[str, str]]  # name as written
    unplaced: dict[str, str]  # the name as first written, by name
    repeated: list[str]  # names of those that are not read, may stand once, and stand again

    def addresses(self, name: str) -> tuple[Address, ...]:
        """Of all fields of this name: a second To is wrong, but who stands there is meant."""
        text = self.first.get(name, "")
        return parse_address_list(", ".join([text, *self.more[name]]) if name in self.more else text)

    def first_addresses(self, name: str) -> tuple[Address, ...]:
        """Of the first of these fields that has any."""
        found = parse_address_list(self.first.get(name, ""))
        if not found and name in self.more:
            found = next(filter(None, map(parse_address_list, self.more[name][:9])), ())
        return found

    def ids(self, name: str) -> str:
        """Without comments beside them, nor what RFC 822 allowed in In-Reply-To: Your message of Monday <id>."""
        text = " ".join(self.first.get(name, "").split())
        ids = _ID.findall(text)
        return " ".join(ids) if len(ids) == text.count("<") == text.count(">") > 0 else text


def _values(header: Fields) -> _Values:
    found = _Values({}, {}, [], {}, [])
    first, more, x_headers, unplaced, repeated = found
    seen: set[str] = set()
    for name, raw in header.fields:
        key = name.lower()
        if key in _READ:
            if key not in first:
                first[key] = field_text(raw)
            elif len(values := more.setdefault(key, [])) < _MOST_READ - 1:
                values.append(field_text(raw))
        elif key.startswith("x-") and not key.startswith("x-ms-exchange-"):
            value = decode_words(field_text(raw)) if len(x_headers) < _MOST_READ else ""
            x_headers.append((name, value))
        else:
            if key in _ONCE_UNREAD:
                if key in seen:
                    repeated.append(key)
                seen.add(key)
            if key not in _UNNAMED:
                unplaced.setdefault(key, name)
    return found


def _read_header(header: Fields, parts: _Parts) -> Message:
    values = _values(header)
    first, more, x_headers, unplaced, _ = values
    reply_to = values.addresses("reply-to") if "reply-to" in first else ()
    if not reply_to and first.get("reply-to"):
        unplaced["reply-to"] = "Reply-To"
    importance, not_understood = _importance(first)
    for name in not_understood:
        unplaced[name] = name.title()
    from_ = values.first_addresses("from")
    if not from_ and first.get("from"):
        parts.warnings.append("the From field holds no address")
    if more or values.repeated:
        repeated = [*(name for name in _ONCE if name in more), *values.repeated]
        parts.warnings += [f"more than one {name} field: the first is taken" for name in repeated]
    subject = decode_words(first["subject"]).strip() if "subject" in first else None
    sender = next(iter(values.first_addresses("sender")), None) if "sender" in first else None
    to = values.addresses("to")
    cc = values.addresses("cc") if "cc" in first else ()
    has_to_or_cc = "to" in first or "cc" in first
    body, attachments = parts.body, tuple(parts.attachments)
    read_receipt = bool(first.get("disposition-notification-to") or first.get("x-confirm-reading-to"))
    delivery_receipt = bool(first.get("return-receipt-to"))
    message_id = values.ids("message-id")
    in_reply_to = values.ids("in-reply-to") if "in-reply-to" in first else ""
    references = values.ids("references") if "references" in first else ""
    not_carried, warnings = _unique(parts.not_carried), _unique(parts.warnings)
    # By position: by name, it takes three times as long.
    # fmt: off
    return Message(
        subject, from_, sender, reply_to, to, cc, has_to_or_cc, body, attachments, importance,
        read_receipt, delivery_receipt, message_id, in_reply_to, references,
        tuple(x_headers), tuple(unplaced.values()), not_carried, warnings,
    )
    # fmt: on


def _subject(header: Fields) -> str:
    raw = next((raw for name, raw in header.fields if name.lower() == "subject"), b"")
    return decode_words(field_text(raw)).strip()


def _importance(first: Mapping[str, str]) -> tuple[Importance | None, list[str]]:
    """The importance, or None and the names of the fields that were to say it."""
    if first.keys().isdisjoint(_IMPORTANCE):
        return None, []
    stated = [name for name in _IMPORTANCE if first.get(name)]
    for name in stated:
        words = _APART.sub(" ", first[name].lower()).split()  # X-Priority: 1 (Highest)
        if words and words[0] in _IMPORTANCE[name]:
            return _IMPORTANCE[name][words[0]], []
    return None, stated


def _unique(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names)) if names else ()
