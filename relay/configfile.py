# SPDX-License-Identifier: MIT
"""YAML → Config: the only place that knows both the file and the tree.

All faults are collected, each a line "PATH:LINE: KEY: what is wrong", and raised at once; no fault holds a
value. What a file may say is in the table of config.py, what a string must look like in configvalue.py, how
YAML is read in configyaml.py.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from relay import configvalue, vault
from relay.config import CLOUDS, FLOWS, Config, EntraConfig, Key, LimitsConfig, keys_of
from relay.configvalue import BadValue
from relay.configyaml import YamlFault, compose, entries, is_nothing, is_quoted, is_text, line_of, merged
from relay.credentials import Secret
from relay.vault import PREFIX, Vault, VaultFault

T = TypeVar("T")
Values = dict[str, Any]  # by path in the table; what the file does not say is not in it
Given = Mapping[str, tuple[int, yaml.Node]]  # line and value of each key of a mapping
Noted = tuple[int, str]  # line, "KEY: what is wrong"

KEYS: dict[str, Key] = {key.path: key for key in keys_of(Config)}
_IGNORED = {"health_addr": "is ignored, as since azureSMTPwithOAuth 1.1.1; remove it"}
_GRAPHS = frozenset(graph_url for _, graph_url in CLOUDS.values())
_RESERVED_SCOPES = frozenset({"openid", "profile", "offline_access"})  # msal asks for them itself, and refuses them
_ONLY_WITH = {  # keys that do nothing with other flows
    "fallback_smtp_user": ("password",),
    "default_mailbox": ("client_credentials", "managed_identity"),
    "allow_anonymous": ("password", "client_credentials", "managed_identity"),
}
_MOST_SECRETS = 2
_MAX_OCTETS = 1 << 20  # of the file and of each {file:}; /dev/zero must not eat the memory


class ConfigError(Exception):
    """Why a configuration cannot be used. faults: one line each, in the file's order; none holds a value."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def load(path: Path, *, environ: Mapping[str, str] = os.environ, key_file: str | None = None) -> Config:
    """The configuration in the file. key_file: for enc: values; see vault.py. Raises ConfigError."""
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
            octets, name=str(path), directory=directory, environ=environ, key_file=key_file, readable_by_all=for_all
        )
    raise ConfigError((f"{path}: {reason}",))


def parse(
    text: bytes | str,
    *,
    name: str,
    directory: Path,
    environ: Mapping[str, str],
    key_file: str | None = None,
    readable_by_all: bool = False,
) -> Config:
    """The same from octets or text. name: the file's, for the faults; directory: where its paths start."""
    reader = _Reader(directory, environ, Vault(vault.key_file(key_file, environ)))
    values = reader.read(text)
    _settle(values, directory, reader)
    _check_limits(values, reader)
    _check_tls(values, reader)
    if not reader.is_faulty("oauth2_config.flow", values):  # else nobody knows what belongs to it
        _check_entra(values, reader)
        _check_accounts(values, reader)
    if readable_by_all and reader.in_clear:
        reader.warn(reader.in_clear[0], "is in clear in a file that every user can read; chmod 600, or encrypt it")
    if reader.faults:
        raise ConfigError(_lines(name, reader.faults))
    return dataclasses.replace(_build(Config, values), warnings=_lines(name, reader.warnings))


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


def _settle(values: Values, directory: Path, reader: _Reader) -> None:
    """What follows from several keys together, or from where the file lies."""
    authority, graph_url = CLOUDS[values.get("cloud", "global")]
    values.setdefault("oauth2_config.authority", authority)
    values.setdefault("graph_url", graph_url)
    scopes = [scope for element in values.get("oauth2_config.scopes", ()) for scope in element.split()]
    asked = tuple(scope for scope in scopes if scope.lower() not in _RESERVED_SCOPES)
    # A gateway's address, or a stand-in's, is no audience of a token: only Microsoft's own are.
    audience = values["graph_url"] if values["graph_url"] in _GRAPHS else graph_url
    # Every file of the seed names the global cloud's scope, which no other cloud has a token for.
    is_default = asked in ((), EntraConfig().scopes)
    values["oauth2_config.scopes"] = (f"{audience}/.default",) if is_default else asked
    if log := values.get("log"):  # as in the seed: a bare name lies beside the file
        values["log"] = str((directory / log if Path(log).name == log else Path(log)).absolute())
    is_by_password = values.get("oauth2_config.flow", "password") == "password"
    has_fallback = "fallback_smtp_user" in values and "fallback_smtp_pass" in values
    if values.get("allow_anonymous") and is_by_password and not has_fallback:
        values["allow_anonymous"] = False
        reader.warn("allow_anonymous", "stays off: it needs fallback_smtp_user and fallback_smtp_pass")


def _check_limits(values: Values, reader: _Reader) -> None:
    """A message for which there is never room would come again and again."""
    limits = LimitsConfig()
    pair = {"max_inflight_bytes": limits.max_inflight_bytes, "max_message_size": limits.max_message_bytes}
    room, largest = (values.get(name, default) for name, default in pair.items())
    if room < largest:
        given = next(name for name in pair if name in values)
        reader.warn(given, "max_message_size lets in what is above max_inflight_bytes, and deferred for ever")


def _check_tls(values: Values, reader: _Reader) -> None:
    """Certificate and key belong together, and TLS from the first octet needs them."""
    pair = {name: values.get(name, "") for name in ("tls.cert_file", "tls.key_file")}
    if any(reader.is_faulty(name, values) for name in pair):
        return
    missing = [name for name, path in pair.items() if not path]
    if len(missing) == 1:
        given = next(name for name in pair if name not in missing)
        reader.fault(given, f"needs {missing[0]} too")
    elif not missing:
        with reader.noting(reader.lines["tls.key_file"], "tls.key_file"):
            configvalue.check_key_pair(pair["tls.cert_file"], pair["tls.key_file"])
    elif values.get("tls.implicit_addr"):
        reader.fault("tls.implicit_addr", "needs tls.cert_file and tls.key_file")
    if values.get("tls.min_version") in ("TLSv1", "TLSv1.1"):
        reader.warn("tls.min_version", "lets old and weak TLS in; raise it as soon as no device needs it any more")


def _check_entra(values: Values, reader: _Reader) -> None:
    """What the flow makes of the app's own credentials, and of keys that only others know."""
    flow, scopes = values.get("oauth2_config.flow", "password"), values["oauth2_config.scopes"]
    if certificate := values.get("oauth2_config.client_certificate"):
        secrets = values.get("oauth2_config.client_secret") or (Secret(""),)
        with reader.noting(reader.lines["oauth2_config.client_certificate"], "oauth2_config.client_certificate"):
            configvalue.check_client_certificate(certificate, secrets[0].reveal())
    if flow != "password" and (len(scopes) > 1 or not scopes[0].endswith("/.default")):
        reader.fault("oauth2_config.scopes", f"flow {flow} takes one scope, which ends in /.default")
    for key, flows in _ONLY_WITH.items():
        if values.get(key) and flow not in flows:
            reader.warn(key, f"has no effect with flow {flow}")


def _check_accounts(values: Values, reader: _Reader) -> None:
    """What the flow makes of users and clients."""
    flow = values.get("oauth2_config.flow", "password")
    users, clients = values.get("users", ()), values.get("clients", ())
    names = [user.username.casefold() for user in users]
    for number, name in enumerate(names):
        if name and name in names[:number]:
            reader.fault(f"users[{number}].username", "stands twice")
    if flow == "password":
        for number, client in enumerate(clients):
            if client.mailbox:
                reader.fault(f"clients[{number}].mailbox", "flow password sends as fallback_smtp_user; remove it")
    if users and flow in ("password", "client_login"):
        reader.warn("users", f"have no effect with flow {flow}: Entra ID checks every login")
    # An empty login with flow password falls back too, whatever allow_anonymous says.
    has_fallback = flow == "password" and "fallback_smtp_user" in values and "fallback_smtp_pass" in values
    if clients and not values.get("allow_anonymous") and not has_fallback:
        reader.warn("clients", "has no effect while allow_anonymous is off")
    if not users and not values.get("allow_anonymous") and flow in ("client_credentials", "managed_identity"):
        reader.warn("oauth2_config.flow", "nobody can send: there are no users, and allow_anonymous is off")


class _Reader:
    """Walks the nodes along the table; notes faults and warnings as (line, text) and goes on.

    place: how a key is named there, such as "oauth2_config.flow" or "users[0].mailbox".
    """

    def __init__(self, directory: Path, environ: Mapping[str, str], vault: Vault) -> None:
        self.vault = vault
        self.directory = directory.absolute()
        self.environ = environ
        self.faults: list[Noted] = []
        self.warnings: list[Noted] = []
        self.lines: dict[str, int] = {}  # of each place
        self.faulty: set[str] = set()  # places with a value that was refused
        self.in_clear: list[str] = []  # places of secrets that can be read in the file itself

    def read(self, text: bytes | str) -> Values:
        """The whole file."""
        try:
            return self.table(compose(text), KEYS, "", 1)
        except YamlFault as fault:
            self.faults.append((fault.line, str(fault)))
            return {}

    def is_faulty(self, place: str, values: Values) -> bool:
        """Whether the file says something there that is no value."""
        return place in self.faulty and place not in values

    def fault(self, place: str, text: str) -> None:
        self.faults.append((self.lines.get(place, 1), f"{place}: {text}"))

    def warn(self, place: str, text: str) -> None:
        self.warnings.append((self.lines.get(place, 1), f"{place}: {text}"))

    @contextmanager
    def noting(self, line: int, place: str) -> Iterator[None]:
        """Notes a BadValue as a fault of that place."""
        try:
            yield
        except BadValue as fault:
            self.faulty.add(place)
            self.faults.append((line, f"{place}: {fault}"))

    def table(self, node: yaml.Node | None, keys: Mapping[str, Key], prefix: str, line: int) -> Values:
        """The values of a mapping. prefix: goes before its keys in faults; line: where it belongs."""
        if not (node is None or is_nothing(node) or isinstance(node, yaml.MappingNode)):
            place = f"{prefix.rstrip('.')}: " if prefix else ""
            self.faults.append((line_of(node), f"{place}must be a mapping of keys and values"))
            return {}
        given = self.names(node, prefix) if isinstance(node, yaml.MappingNode) else {}
        known = dict.fromkeys(path.partition(".")[0] for path in keys)
        for name in [name for name in given if name not in known]:
            self.unknown(name, keys, prefix)
        values: Values = {}
        for name in known:
            start, child = given.get(name, (line, None))
            if name in keys:
                with self.noting(start, prefix + name):
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
            if not isinstance(key, yaml.ScalarNode) or len(name) > 64 or not name.isprintable():
                self.faults.append((line, "a key must be a short word"))
            elif name in given:
                self.faults.append((line, f"{prefix}{name}: stands twice, first in line {given[name][0]}"))
            else:
                given[name] = line, value
        for key, value in merged(node):
            given.setdefault(str(key.value), (line_of(key), value))
        self.lines |= {prefix + name: line for name, (line, _) in given.items()}
        return given

    def unknown(self, name: str, keys: Mapping[str, Key], prefix: str) -> None:
        """Notes a key that is not in the table, with what may have been meant."""
        place = prefix + name
        if place in _IGNORED:
            self.warn(place, _IGNORED[place])
            return
        here = {path.partition(".")[0] for path in keys}
        elsewhere = [path for path in KEYS if path.rpartition(".")[2] == name]
        close = [prefix + match for match in difflib.get_close_matches(name.lower(), here, n=1)]
        hint = "".join(f" (did you mean {path}?)" for path in (elsewhere or close)[:1])
        if elsewhere and "." not in elsewhere[0]:
            hint = " (it belongs to the top level, without indentation)"
        self.faults.append((self.lines[place], f"{place}: unknown key{hint}"))

    def entry(self, node: yaml.Node | None, key: Key, place: str, beside: Given, values: Values) -> Any:
        """The value of one key, None where the file says nothing. Raises BadValue."""
        value = None if node is None or is_nothing(node) else self.value(node, key, place)
        if value is None and key.required and _needs(key, beside, values):
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
            with self.noting(line_of(item), f"{place}[{index}]"):
                value = None if is_nothing(item) else self.string(item, key, place)
                if value is None:
                    raise BadValue("must not be empty")
                if value in values:
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
            self.warn(place, "starts or ends with white space")
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
