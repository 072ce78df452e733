# SPDX-License-Identifier: MIT
"""YAML → Config: the only place that knows both the file and the tree.

All faults are collected, each a line "PATH:LINE: KEY: what is wrong", and raised at once; no fault holds a
value. What a file may say is in the table of config.py, what a string must look like in configvalue.py, what several
keys say together in configchecks.py, how YAML is read in configyaml.py.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from relay import configvalue, vault
from relay.config import FLOWS, Config, Key, ListenAddress, keys_of
from relay.configchecks import Noted, Notes, Values, check, settle
from relay.configvalue import BadValue
from relay.configyaml import YamlFault, compose, entries, is_nothing, is_quoted, is_text, line_of, merged
from relay.credentials import Secret
from relay.vault import PREFIX, Vault, VaultFault

T = TypeVar("T")
Given = Mapping[str, tuple[int, yaml.Node]]  # line and value of each key of a mapping

KEYS: dict[str, Key] = {key.path: key for key in keys_of(Config)}
_IGNORED = {"health_addr": "is ignored, as since azureSMTPwithOAuth 1.1.1; remove it"}
_MOST_SECRETS = 2
_NAME = re.compile(r"[\w.-]{1,64}")  # of a key. What is none may be key and value with no space between: `secret:value`
_MAX_OCTETS = 1 << 20  # of the file and of each {file:}; /dev/zero must not eat the memory


class ConfigError(Exception):
    """Why a configuration cannot be used. faults: one line each, in the file's order; none holds a value."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def load(
    path: Path,
    *,
    environ: Mapping[str, str] = os.environ,
    key_file: str | None = None,
    needs_account: bool = True,
) -> Config:
    """The configuration in the file. Raises ConfigError.

    key_file: for enc: values; see vault.py. needs_account: whether the values of the app registration have to be there.
    """
    try:
        octets = _read(path)
        for_all = bool(path.stat().st_mode & 0o004)
    except BadValue as fault:
        reason = str(fault)
    except OSError as fault:  # gone in between
        reason = fault.strerror or "input/output error"
    else:
        directory = path.absolute().parent
        return parse(
            octets,
            name=str(path),
            directory=directory,
            environ=environ,
            key_file=key_file,
            needs_account=needs_account,
            readable_by_all=for_all,
        )
    raise ConfigError((f"{path}: {reason}",))


def parse(
    text: bytes | str,
    *,
    name: str,
    directory: Path,
    environ: Mapping[str, str],
    key_file: str | None = None,
    needs_account: bool = True,
    readable_by_all: bool = False,
) -> Config:
    """The same from octets or text. name: the file's, for the faults; directory: where its paths start."""
    reader = _Reader(directory, environ, Vault(vault.key_file(key_file, environ)), needs_account=needs_account)
    values = reader.read(text)
    notes = reader.notes
    settle(values, directory, notes)
    check(values, notes)
    if readable_by_all and reader.in_clear:
        notes.warn(reader.in_clear[0], "is in clear in a file that every user can read; chmod 600, or encrypt it")
    if notes.faults:
        raise ConfigError(_lines(name, notes.faults))
    return dataclasses.replace(_build(Config, values), warnings=_lines(name, notes.warnings))


def _needs(key: Key, beside: Given, values: Values) -> bool:
    """Whether the flow that stands beside a key needs it, and nothing else there takes its place."""
    _, instead = beside.get(key.unless, (0, None))
    if instead is not None and not is_nothing(instead) and instead.value:
        return False
    return not key.flows or (values.get("flow") or FLOWS[0]) in key.flows  # the table has the flow first


def _lines(name: str, noted: list[Noted]) -> tuple[str, ...]:
    return tuple(f"{name}:{line}: {text}" for line, text in sorted(noted, key=lambda one: one[0]))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            octets = stream.read(_MAX_OCTETS + 1)
    except OSError as error:
        reason = error.strerror or "input/output error"
    except ValueError:  # a NUL in the path
        reason = "no file can have this name"
    else:
        if len(octets) <= _MAX_OCTETS:
            return octets
        reason = "larger than 1 MiB"
    raise BadValue(f"cannot be read: {reason}")


def _build(tree: type[T], values: Values) -> T:
    """The dataclass with what the file says; the rest has the defaults of the table."""
    dataclass: Any = tree
    parts: dict[str, Any] = {}
    for part in dataclasses.fields(dataclass):
        key: Key | None = part.metadata.get("key")
        if key is None and dataclasses.is_dataclass(part.default):
            parts[part.name] = _build(type(part.default), values)
        elif key is not None and key.path in values:
            parts[part.name] = values[key.path]
    return cast(T, dataclass(**parts))


class _Reader:
    """Walks the nodes along the table; notes faults and warnings and goes on."""

    def __init__(
        self, directory: Path, environ: Mapping[str, str], vault: Vault, *, needs_account: bool = True
    ) -> None:
        self.vault = vault
        self.needs_account = needs_account
        self.directory = directory.absolute()
        self.environ = environ
        self.notes = Notes()
        self.in_clear: list[str] = []  # places of secrets that can be read in the file itself

    def read(self, text: bytes | str) -> Values:
        """The whole file."""
        try:
            return self.table(compose(text), KEYS, "", 1)
        except YamlFault as fault:
            self.notes.faults.append((fault.line, str(fault)))
            return {}

    def table(self, node: yaml.Node | None, keys: Mapping[str, Key], prefix: str, line: int) -> Values:
        """The values of a mapping. prefix: goes before its keys in faults; line: where it belongs."""
        if not (node is None or is_nothing(node) or isinstance(node, yaml.MappingNode)):
            place = f"{prefix.rstrip('.')}: " if prefix else ""
            self.notes.faults.append((line_of(node), f"{place}must be a mapping of keys and values"))
            return {}
        given = self.names(node, prefix) if isinstance(node, yaml.MappingNode) else {}
        known = dict.fromkeys(path.partition(".")[0] for path in keys)
        for name in [name for name in given if name not in known]:
            self.unknown(name, keys, prefix)
        values: Values = {}
        for name in known:
            start, child = given.get(name, (line, None))
            if name in keys:
                with self.notes.noting(start, prefix + name):
                    values[name] = self.entry(child, keys[name], prefix + name, given, values)
                continue
            below = {path.removeprefix(f"{name}."): key for path, key in keys.items() if path.startswith(f"{name}.")}
            inner = self.table(child, below, f"{prefix}{name}.", start)
            values |= {f"{name}.{path}": value for path, value in inner.items()}
        return {path: value for path, value in values.items() if value is not None}

    def names(self, node: yaml.MappingNode, prefix: str) -> dict[str, tuple[int, yaml.Node]]:
        """Line and value of each key of a mapping."""
        given: dict[str, tuple[int, yaml.Node]] = {}
        for key, value in entries(node):
            line, name = line_of(key), str(key.value)
            if not isinstance(key, yaml.ScalarNode) or not _NAME.fullmatch(name):
                self.notes.faults.append((line, "a key must be a short word, with a colon and a space behind it"))
            elif name in given:
                self.notes.faults.append((line, f"{prefix}{name}: stands twice, first in line {given[name][0]}"))
            else:
                given[name] = line, value
        for key, value in merged(node):
            given.setdefault(str(key.value), (line_of(key), value))
        self.notes.lines |= {prefix + name: line for name, (line, _) in given.items()}
        return given

    def unknown(self, name: str, keys: Mapping[str, Key], prefix: str) -> None:
        """Notes a key that is not in the table, with what may have been meant."""
        place = prefix + name
        if place in _IGNORED:
            self.notes.warn(place, _IGNORED[place])
            return
        here = {path.partition(".")[0] for path in keys}
        elsewhere = [path for path in KEYS if path.rpartition(".")[2] == name]
        close = [prefix + match for match in difflib.get_close_matches(name.lower(), here, n=1)]
        hint = "".join(f" (did you mean {path}?)" for path in (elsewhere or close)[:1])
        if elsewhere and "." not in elsewhere[0]:
            hint = " (it belongs to the top level, without indentation)"
        self.notes.faults.append((self.notes.lines[place], f"{place}: unknown key{hint}"))

    def entry(self, node: yaml.Node | None, key: Key, place: str, beside: Given, values: Values) -> Any:
        """The value of one key, None where the file says nothing. Raises BadValue."""
        value = None if node is None or is_nothing(node) else self.value(node, key, place)
        is_account = bool(key.flows)  # a value of the app registration
        if value is None and key.required and (self.needs_account or not is_account) and _needs(key, beside, values):
            raise BadValue("required value is missing")
        return value

    def value(self, node: yaml.Node, key: Key, place: str) -> Any:
        match key.kind:
            case "processes" if is_text(node) and node.value.lower() == "auto":
                return 0
            case "boolean" | "integer" | "processes":
                return self.bare(node, key)
            case "table":
                return self.branch(node, key.of, place)
            case "tables" if isinstance(node, yaml.SequenceNode):
                return tuple(self.branch(item, key.of, f"{place}[{i}]") for i, item in enumerate(node.value))
            case "tables":
                raise BadValue("must be a list of mappings")
            case "addresses" | "network" | "networks" | "texts" | "secrets":
                return self.several(node, key, place)
        return self.string(node, key, place)

    def branch(self, node: yaml.Node, tree: type[T], place: str) -> T:
        keys = {key.path: key for key in keys_of(tree)}
        return _build(tree, self.table(node, keys, f"{place}.", line_of(node)))

    def bare(self, node: yaml.Node, key: Key) -> Any:
        """A boolean or an integer: written without quotes, as in the seed."""
        text = node.value if is_text(node) else ""
        if key.kind == "boolean" and key.zero_is_default and text == "0":
            return None
        value = configvalue.boolean(text) if key.kind == "boolean" else configvalue.integer(text, key)
        if is_quoted(node):
            raise BadValue(f"must be {'true or false' if key.kind == 'boolean' else 'a number'}; remove the quotes")
        return value

    def several(self, node: yaml.Node, key: Key, place: str) -> tuple[Any, ...] | None:
        """A list, or one element alone where the kind takes it. Faults of elements are noted one by one."""
        if not isinstance(node, yaml.SequenceNode):
            if key.kind in ("networks", "texts"):
                raise BadValue("must be a list, each element behind a dash, or all of them in [ ]")
            one = self.string(node, key, place)
            return None if one is None else (one,)
        if key.kind == "secrets" and len(node.value) > _MOST_SECRETS:
            raise BadValue("takes two secrets at the most: the new one and the old one")
        values = []
        for index, item in enumerate(node.value):
            with self.notes.noting(line_of(item), f"{place}[{index}]"):
                value = None if is_nothing(item) else self.string(item, key, place)
                if value is None:
                    raise BadValue("must not be empty")
                is_free_port = isinstance(value, ListenAddress) and not value.port  # another one each time
                if value in values and not is_free_port:
                    raise BadValue("stands twice in the list")
                values.append(value)
        return tuple(values) if node.value or key.kind == "networks" else None

    def string(self, node: yaml.Node, key: Key, place: str) -> Any:
        """What a string stands for; None where it is empty."""
        is_secret = key.kind in ("secret", "secrets")
        text = configvalue.usable(self.decrypted(self.text(node)), is_secret=is_secret)
        if not text:
            return None
        if key.kind == "choice":
            return configvalue.choice(text, key)
        if key.kind == "path":
            text = str(self.directory / text)
        value = configvalue.parser_of(key)(text)
        if not is_secret:
            return value
        if is_text(node) and node.value == text and configvalue.tells(key.path, text) and not place.endswith("_hash"):
            self.in_clear.append(place)
        if text != text.strip():
            self.notes.warn(place, "starts or ends with white space")
        return Secret(value)

    def decrypted(self, text: str) -> str:
        """What an enc: value stands for; anything else as it is."""
        try:
            return self.vault.decrypt(text) if text.startswith(PREFIX) else text
        except VaultFault as fault:
            raise BadValue(str(fault)) from None

    def text(self, node: yaml.Node) -> str:
        """A string as it was written, or what {env: NAME} or {file: PATH} names."""
        if is_text(node):
            return str(node.value)
        if not isinstance(node, yaml.MappingNode):
            raise BadValue("must be a string; put a value that starts with [ or ! in quotes")
        pairs = [(word.value, name.value) for word, name in node.value if is_text(word) and is_text(name)]
        match pairs if len(node.value) == 1 else ():
            case [("env", str(name))] if name.isprintable():
                if name not in self.environ:
                    raise BadValue(f"the environment variable {name} is not set")
                return self.environ[name]
            case [("file", str(name))] if name and name.isprintable():
                return self.file(name)
        raise BadValue("must be a string, {env: NAME} or {file: PATH}; put a value that starts with { in quotes")

    def file(self, name: str) -> str:
        """The text of a file, without one line end at its end."""
        try:
            return _read(self.directory / name).decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            reason = "is not UTF-8 text"
        except BadValue as fault:
            reason = str(fault)
        raise BadValue(f"the file {name} {reason}")
