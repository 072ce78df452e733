# SPDX-License-Identifier: MIT
"""Address lists as they stand in header fields → addresses, and when two addresses are the same (RFC 5322 §3.4, §4.4).

Own tokenizer: what the standard library makes of odd lists changed between Python versions. Never raises, never
recurses, linear in the length. Knows no header field by name and no envelope.
"""

from __future__ import annotations

import re
import unicodedata

from relay.idn import comparable_domain
from relay.message.headers import decode_words
from relay.message.model import Address

_MAX_LIST = 250_000  # characters of one list that are read: some 5,000 addresses, ten times max_recipients
# Every alternative takes a backslash together with what follows, or an unclosed quote would be looked for again and
# again. An encoded word is one token whatever stands in it.
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]++)
      | (?P<quoted>"(?:[^"\\]++|\\.)*+")
      | (?P<atom>(?:=\?[^?\s]+\?[bBqQ]\?[^?]*\?= | [^"()<>\[\],;:\\\ \t\r\n=]++ | =(?!\?) | \\.)++
               | \[(?:[^\[\]\\]++|\\.)*+\])
      | (?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
# Python's email package before 3.12 folds long lists so that a comma between two entries becomes an encoded word.
_ENCODED_COMMA = re.compile(r"(@[^\s@<>,;]++>?)[ \t]++=\?utf-8\?q\?=2C\?=(?=[ \t])", re.IGNORECASE)
_NO_ADDRESS = re.compile(r'(?:[^"()<>\[\],;:@\\=]*+[,;])++')  # entries that can only be left out, read at once
_PARENTHESIS = re.compile(r"\\.|[()]", re.DOTALL)
_LOCAL = r'(?:"(?:[^"\\\x00-\x1f]|\\[^\x00-\x1f])*+"|[^\s"(),:;<>@\[\]\\\x00-\x1f\x7f]++)'
_DOMAIN = r'(?:\[[^\[\]\s\\]++\]|[^\s"(),:;<>@\[\]\\\x00-\x1f\x7f]++)'
_ADDRESS = re.compile(_LOCAL + "@" + _DOMAIN)
_ATOMS = r"[^\s\"(),:;<>@\[\]\\\x00-\x1f\x7f]++"
# One entry in the form that nearly all have, up to its comma; whatever else takes the long way.
_PLAIN_ENTRY = re.compile(
    rf"""[ \t\r\n]*+
      (?: (?: "(?P<quoted>[^"\\]*+)" | (?P<phrase>[^"()<>\[\],;:@\\]*+) ) [ \t\r\n]*+ <(?P<angle>{_ATOMS}@{_ATOMS})>
        | (?!=\?)(?P<bare>{_ATOMS}@{_ATOMS}) )
      [ \t\r\n]*+ (?:[,;]|\Z)""",
    re.VERBOSE,
)
_DOT_ATOM = re.compile(r'[^\s"(),.:;<>@\[\]\\]++(?:\.[^\s"(),.:;<>@\[\]\\]++)*+')


def is_address(text: str) -> bool:
    """Whether text is one addr-spec with an @ and nothing beside it."""
    return _ADDRESS.fullmatch(text) is not None


def is_address_again(name: str) -> bool:
    """Whether a display name is itself an address, in quotes or brackets perhaps: Exchange takes it for one."""
    return "@" in name and is_address(name.strip(" \t'\"<>()[]"))


def canonical(addr: str) -> str:
    """The key by which two addresses are compared: case, IDN form, needless quotes and a final dot don't count."""
    if "@" in addr and '"' not in addr and addr.isascii():  # the usual case, and the short way
        return addr.rstrip(".").lower()
    local, at, domain = addr.rpartition("@")
    if not at:
        return addr.casefold()
    if local.startswith('"') and local.endswith('"') and _DOT_ATOM.fullmatch(local[1:-1]):
        local = local[1:-1]
    if addr.isascii():
        return f"{local}@{domain.rstrip('.')}".lower()
    return f"{unicodedata.normalize('NFC', local.casefold())}@{comparable_domain(domain)}"


def with_ascii_domain(addr: str) -> str:
    """addr with its domain as A-labels where it is an IDN (RFC 5891), for header fields that hold ASCII alone."""
    if addr.isascii():
        return addr
    local, at, domain = addr.rpartition("@")
    return addr if domain.isascii() else f"{local}{at}{comparable_domain(domain)}"


def parse_address_list(raw: str) -> tuple[Address, ...]:
    """The mailboxes of an address list, in order, with decoded display names; what has no address is left out.

    raw: the unfolded value of the field. Members of groups are kept, group names are not; a comment is the display
    name where there is no other. Semicolons part entries as commas do, and a missing comma is found.
    """
    if not raw:
        return ()
    if "=?" in raw and ("?=2C?=" in raw or "?=2c?=" in raw):
        raw = _ENCODED_COMMA.sub(r"\1,", raw)
    raw = raw[:_MAX_LIST]
    if entry := _PLAIN_ENTRY.fullmatch(raw):  # one address is what most fields have
        return (_plain_address(entry),)
    found = _ListReader(raw).read()
    if not found and "=?" in raw and "<" in (decoded := decode_words(raw)):  # the address was encoded with the name
        found = _ListReader(decoded).read()
    return tuple(found)


def _plain_address(entry: re.Match[str]) -> Address:
    quoted, phrase, angle, bare = entry.groups()
    name = quoted or phrase
    return Address(" ".join(decode_words(name).split()) if name else "", angle or bare)


class _ListReader:
    """Reads one list. An entry is a phrase, then perhaps an angle-addr; a comment may stand anywhere."""

    def __init__(self, raw: str) -> None:
        self._raw = raw
        self._found: list[Address] = []
        self._comments_closed = True  # False: a "(" without its ")" was met, so none is a comment any more
        self._begin_entry()

    def _begin_entry(self) -> None:
        self._phrase: list[tuple[str, str]] = []  # (kind, text) of the tokens outside of <>
        self._at_in_phrase = False
        self._angle: list[str] | None = None  # tokens inside of <>, None before the "<"
        self._open = False  # between < and >
        self._comment = ""

    def read(self) -> list[Address]:
        raw, at = self._raw, 0
        while at < len(raw):
            if not (self._phrase or self._angle or self._open) and (end := self._read_plain_entry(at)):
                at = end
                continue
            token = _TOKEN.match(raw, at)
            if token is None:
                break
            kind, text = str(token.lastgroup), token[0]
            at = token.end()
            if text == "(" and (end := self._comment_end(at)):
                self._comment = self._comment or raw[at : end - 1]
                at = end
            elif kind == "mark":
                self._take_mark(text)
            else:
                self._take(kind, text)
        self._end_entry()
        return self._found

    def _read_plain_entry(self, at: int) -> int:
        """The index behind what could be read at once, at the beginning of an entry; 0 for nothing."""
        entry = _PLAIN_ENTRY.match(self._raw, at)
        if entry is None:
            skipped = _NO_ADDRESS.match(self._raw, at)
            return skipped.end() if skipped else 0
        self._found.append(_plain_address(entry))
        return entry.end()

    def _comment_end(self, at: int) -> int:
        """The index behind the ")" that closes the comment (they nest, RFC 5322 §3.2.2), or 0."""
        depth = 1
        while self._comments_closed and (mark := _PARENTHESIS.search(self._raw, at)):
            at = mark.end()
            depth += {"(": 1, ")": -1}.get(mark[0], 0)
            if depth == 0:
                return at
        self._comments_closed = False
        return 0

    def _take(self, kind: str, text: str) -> None:
        if self._open:
            if self._angle is not None and kind != "space":
                self._angle.append(text)
        elif self._angle is None:
            self._phrase.append((kind, text))
            self._at_in_phrase = self._at_in_phrase or "@" in text
        elif kind != "space":  # after <…>: the comma is missing
            self._end_entry()
            self._take(kind, text)

    def _take_mark(self, mark: str) -> None:
        route = self._open and self._angle and self._angle[0].startswith("@")
        if mark in ",;":
            if not route:  # RFC 5322 §4.4: a route is a list of domains with commas
                self._end_entry()
        elif mark == "<":
            if self._angle is not None and not (self._open and not self._angle):
                self._end_entry()
            self._angle, self._open = [], True
        elif mark == ">":
            self._open = False
        elif mark == ":":
            if route or self._open:  # or <mailto:a@b>
                self._angle = []
            elif not self._at_in_phrase:
                self._phrase = []  # the name of a group, RFC 5322 §3.4
            else:
                self._take("atom", mark)
        else:
            self._take("atom", mark)

    def _end_entry(self) -> None:
        angle = "".join(self._angle or ())
        if is_address(angle):
            self._found.append(Address(self._display_name(self._phrase), angle))
        elif self._phrase:
            self._take_bare_addresses()
        self._begin_entry()

    def _display_name(self, phrase: list[tuple[str, str]]) -> str:
        words = "".join(_unquoted(text) if kind == "quoted" else text for kind, text in phrase)
        if not words.strip():
            words = re.sub(r"\\(.)", r"\1", self._comment)
        return " ".join(decode_words(words).split())

    def _take_bare_addresses(self) -> None:
        """Addresses without angle brackets: mostly one; several where commas are missing."""
        name: list[tuple[str, str]] = []
        for word in _joined_words(self._phrase):
            if is_address(word) and not word.startswith("=?"):
                self._found.append(Address(self._display_name(name), word))
                name, self._comment = [], ""
            else:
                name += (("atom", word), ("space", " "))


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)


def _joined_words(phrase: list[tuple[str, str]]) -> list[str]:
    """The phrase cut at white space, but not around an @ nor before a dot (RFC 5322 §4.4 allows blanks there)."""
    words: list[list[str]] = []
    glue = False
    for kind, text in phrase:
        if kind == "space":
            glue = bool(words) and (words[-1][-1].endswith("@") or words[-1][-1] == ".")
        elif words and (glue or text.startswith(("@", "."))):
            words[-1].append(text)
            glue = True
        else:
            words.append([text])
            glue = True
    return ["".join(word) for word in words]
