# SPDX-License-Identifier: MIT
"""Octets of a configuration file → YAML nodes, each with its line.

Knows PyYAML, and must not know our keys. PyYAML's own error texts quote the file, and what they quote may be
a secret: none of them leaves this module, each fault is said in our words. Working on nodes instead of values
keeps the lines, and the strings as they were written (0012, yes). Source: YAML 1.1, as PyYAML reads it.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

import yaml

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
# What an unquoted word may turn out to be; all of them are taken as written where a string is wanted.
_WORDS = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "timestamp", "value", "merge"))

_ENDS = "\0 \t\r\n\x85\u2028\u2029,?[]{}"  # of a word in brackets or braces, as PyYAML has them

_QUOTE = "put the value in quotes"
_MESSAGES = (  # the first whose needle stands in PyYAML's context and problem
    ("unexpected end of stream", "a quote that is never closed"),
    ("unexpected document separator", "a quote that is never closed"),
    ("found character '\\t'", "a tab where only spaces are allowed"),
    ("found character", f"a value cannot start with this character; {_QUOTE}"),
    ("undefined alias", f"a value cannot start with *; {_QUOTE}"),
    ("duplicate anchor", f"a value cannot start with &; {_QUOTE}"),
    ("scanning an anchor", f"a value cannot start with &; {_QUOTE}"),
    ("scanning an alias", f"a value cannot start with *; {_QUOTE}"),
    ("undefined tag", f"a value cannot start with !; {_QUOTE}"),
    ("scanning a tag", f"a value cannot start with !; {_QUOTE}"),
    ("scanning a block scalar", f"a value cannot start with > or |; {_QUOTE}"),
    (
        "scanning a double-quoted scalar",
        "a backslash that means nothing here; put the value in single quotes",
    ),
    ("mapping values are not allowed", f"a colon in an odd place; check the indentation, or {_QUOTE}"),
    ("expected ':'", f"not KEY: VALUE, with a space behind the colon; check the line, or {_QUOTE}"),
    ("parsing a flow", f"a [ or {{ without its end, or a value that starts with one; {_QUOTE}"),
    ("but found '<scalar>'", "text behind a closing quote or bracket; put the whole value in quotes"),
    ("another document", "a second document starts here; remove the --- line"),
)


class YamlFault(Exception):
    """Why a file cannot be read as YAML, and in which line (from 1). Holds nothing of the file's text."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


class _Loader(yaml.SafeLoader):
    """Takes a tab between a key and its value, and before a comment, as the YAML library of azureSMTPwithOAuth does.

    In brackets and braces, a value may start with a colon (:2526), as in YAML 1.2 (§7.3.3).

    That library reads the first document alone. We take a --- at the end, with nothing behind it; what stands behind
    one would be ignored in silence, and secrets in it would not be encrypted.
    """

    def check_value(self) -> bool:
        return not self._is_colon_of_a_word() and bool(super().check_value())

    def check_plain(self) -> bool:
        return self._is_colon_of_a_word() or bool(super().check_plain())

    def _is_colon_of_a_word(self) -> bool:
        """Whether a value in brackets or braces begins with it: no key stands before it, and no blank behind it."""
        if not self.flow_level or self.peek() != ":" or self.peek(1) in _ENDS:
            return False
        before = self.pointer - 1
        while self.buffer[before] in " \t":
            before -= 1
        return bool(self.allow_simple_key) or self.buffer[before] == ":"

    def get_single_node(self) -> yaml.Node | None:
        root: yaml.Node | None = super().get_node() if self.check_node() else None
        while self.check_node():
            start = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            other = super().get_node()
            if other is not None and not is_nothing(other):
                raise yaml.composer.ComposerError(None, None, "another document", start)
        return root

    def scan_to_next_token(self) -> None:
        while True:
            super().scan_to_next_token()
            if self.peek() != "\t" or (self.allow_simple_key and not self.flow_level):
                return
            self.forward()


def compose(source: bytes | str) -> yaml.Node | None:
    """The root node, None for an empty file. Raises YamlFault."""
    text = _decode(source) if isinstance(source, bytes) else source
    try:
        root: yaml.Node | None = yaml.compose(text.removeprefix("\ufeff"), Loader=_Loader)
        return root
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        fault = YamlFault(line, "a control character; save the file as UTF-8 text")
    except yaml.MarkedYAMLError as error:
        fault = _in_our_words(error)
    except RecursionError:
        fault = YamlFault(1, "lists or mappings are nested too deeply")
    except (ValueError, OverflowError):  # a number too large for chr() or int(), in \U… or %YAML
        fault = YamlFault(1, "not valid YAML: a number is out of range behind \\U or %YAML")
    raise fault  # out here, so that PyYAML's error, which holds the text, is not chained to it


def _decode(octets: bytes) -> str:
    encoding = "utf-16" if octets.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
    try:
        return octets.decode(encoding)
    except UnicodeDecodeError as error:
        line = octets[: error.start].decode(encoding, "ignore").count("\n") + 1
    raise YamlFault(line, "not UTF-8 text; save the file as UTF-8")


def _in_our_words(error: yaml.MarkedYAMLError) -> YamlFault:
    said = f"{error.context or ''} {error.problem or ''}"
    general = f"not valid YAML; check the indentation, and {_QUOTE} where it holds special characters"
    text = next((message for needle, message in _MESSAGES if needle in said), general)
    # What is never closed is noticed at the end of the file, a key without its colon in the next line: the place to
    # look at is the start.
    unclosed = any(words in said for words in ("quoted scalar", "parsing a flow", "expected ':'"))
    mark = (error.context_mark if unclosed else None) or error.problem_mark
    return YamlFault(mark.line + 1 if mark else 1, text)


def line_of(node: yaml.Node) -> int:
    """The line in which a node starts, from 1."""
    return int(node.start_mark.line) + 1


def is_nothing(node: yaml.Node) -> bool:
    """Whether nothing was written (or null, or ~)."""
    return isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}null"


def is_text(node: yaml.Node) -> bool:
    """Whether the node may be taken as a string. Not so with !!binary and with tags of one's own."""
    return isinstance(node, yaml.ScalarNode) and node.tag in _WORDS


def is_quoted(node: yaml.Node) -> bool:
    """Whether a scalar was written in quotes or as a block."""
    return isinstance(node, yaml.ScalarNode) and node.style is not None


def entries(mapping: yaml.MappingNode) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """What stands in the mapping itself, without its merge keys."""
    yield from ((key, value) for key, value in mapping.value if key.tag != _MERGE)


def merged(mapping: yaml.MappingNode) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """What << brings in; where two of them have the same key, the first one holds. Raises YamlFault.

    Each source is read once: aliases can be recursive, and lists of them can grow without limit.
    """
    waiting: list[yaml.Node] = [value for key, value in mapping.value if key.tag == _MERGE]
    visited = {id(mapping)}
    while waiting:
        source = waiting.pop(0)
        if id(source) in visited:
            continue
        visited.add(id(source))
        if isinstance(source, yaml.MappingNode):
            yield from entries(source)
            waiting[:0] = [value for key, value in source.value if key.tag == _MERGE]
        elif isinstance(source, yaml.SequenceNode):
            waiting[:0] = source.value
        else:
            raise YamlFault(line_of(source), "what << merges must be a mapping")
