# SPDX-License-Identifier: MIT
"""What several keys of a configuration say together, and the notes of what is wrong. Knows no YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relay import configvalue
from relay.config import CLOUDS, OLD_TLS, EntraConfig, LimitsConfig, ListenConfig
from relay.configvalue import BadValue
from relay.credentials import Secret

Values = dict[str, Any]  # by path in the table; what the file does not say is not in it
Noted = tuple[int, str]  # line, "KEY: what is wrong"

_GRAPHS = frozenset(graph_url for _, graph_url in CLOUDS.values())
_RESERVED_SCOPES = frozenset({"openid", "profile", "offline_access"})  # msal asks for them itself, and refuses them
_ONLY_WITH = {  # keys that do nothing with other flows
    "fallback_smtp_user": ("password",),
    "default_mailbox": ("client_credentials", "managed_identity"),
    "allow_anonymous": ("password", "client_credentials", "managed_identity"),
}


class Notes:
    """Faults and warnings, as they are found.

    place: how a key is named there, such as "oauth2_config.flow" or "users[0].mailbox".
    """

    def __init__(self) -> None:
        self.faults: list[Noted] = []
        self.warnings: list[Noted] = []
        self.lines: dict[str, int] = {}  # of each place
        self.faulty: set[str] = set()  # places with a value that was refused

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


def settle(values: Values, directory: Path, notes: Notes) -> None:
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
        if "\\" in log or re.match(r"[A-Za-z]:", log):
            notes.warn("log", "is a path of Windows, and no directory here; name a file on this machine")
        values["log"] = str((directory / log if Path(log).name == log else Path(log)).absolute())
    is_by_password = values.get("oauth2_config.flow", "password") == "password"
    has_fallback = "fallback_smtp_user" in values and "fallback_smtp_pass" in values
    if values.get("allow_anonymous") and is_by_password and not has_fallback:
        values["allow_anonymous"] = False
        notes.warn("allow_anonymous", "stays off: it needs fallback_smtp_user and fallback_smtp_pass")
    elif is_by_password and not has_fallback:
        for given in ("fallback_smtp_user", "fallback_smtp_pass"):
            if given in values:
                notes.warn(given, "has no effect: fallback_smtp_user and fallback_smtp_pass go together")


def check(values: Values, notes: Notes) -> None:
    """Note what cannot be together, and what does nothing. After settle()."""
    _check_limits(values, notes)
    _check_addresses(values, notes)
    _check_tls(values, notes)
    if not notes.is_faulty("oauth2_config.flow", values):  # else nobody knows what belongs to it
        _check_entra(values, notes)
        _check_accounts(values, notes)


def _check_limits(values: Values, notes: Notes) -> None:
    """A message for which there is never room would come again and again."""
    limits = LimitsConfig()
    pair = {"max_inflight_bytes": limits.max_inflight_bytes, "max_message_size": limits.max_message_bytes}
    room, largest = (values.get(name, default) for name, default in pair.items())
    if room < largest:
        given = next(name for name in pair if name in values)
        notes.warn(given, "max_message_size lets in what is above max_inflight_bytes, and deferred for ever")


def _check_addresses(values: Values, notes: Notes) -> None:
    """Nobody else could listen where we do already. Port 0 is another one each time."""
    admin = values.get("admin_addr")
    taken = {address: "listen_addr" for address in values.get("listen_addr", ListenConfig().addresses)}
    for place, addresses in (
        ("tls.implicit_addr", values.get("tls.implicit_addr", ())),
        ("admin_addr", (admin,) if admin else ()),
    ):
        for address in addresses:
            if address.port and address in taken:
                notes.fault(place, f"is an address of {taken[address]} already")
            taken.setdefault(address, place)


def _check_tls(values: Values, notes: Notes) -> None:
    """Certificate and key belong together, and TLS from the first octet needs them."""
    pair = {name: values.get(name, "") for name in ("tls.cert_file", "tls.key_file")}
    old = values.get("tls.min_version") in OLD_TLS
    if any(notes.is_faulty(name, values) for name in pair):
        return
    missing = [name for name, path in pair.items() if not path]
    if len(missing) == 1:
        given = next(name for name in pair if name not in missing)
        notes.fault(given, f"needs {missing[0]} too")
    elif not missing:
        with notes.noting(notes.lines["tls.key_file"], "tls.key_file"):
            configvalue.check_key_pair(pair["tls.cert_file"], pair["tls.key_file"], for_old_tls=old)
    elif values.get("tls.implicit_addr"):
        notes.fault("tls.implicit_addr", "needs tls.cert_file and tls.key_file")
    if old:
        notes.warn("tls.min_version", "lets old and weak TLS in; raise it as soon as no device needs it any more")


def _check_entra(values: Values, notes: Notes) -> None:
    """What the flow makes of the app's own credentials, and of keys that only others know."""
    flow, scopes = values.get("oauth2_config.flow", "password"), values["oauth2_config.scopes"]
    if certificate := values.get("oauth2_config.client_certificate"):
        secrets = values.get("oauth2_config.client_secret") or (Secret(""),)
        with notes.noting(notes.lines["oauth2_config.client_certificate"], "oauth2_config.client_certificate"):
            configvalue.check_client_certificate(certificate, secrets[0].reveal())
    if flow != "password" and (len(scopes) > 1 or not scopes[0].endswith("/.default")):
        notes.fault("oauth2_config.scopes", f"flow {flow} takes one scope, which ends in /.default")
    for key, flows in _ONLY_WITH.items():
        if values.get(key) and flow not in flows:
            notes.warn(key, f"has no effect with flow {flow}")


def _check_accounts(values: Values, notes: Notes) -> None:
    """What the flow makes of users and clients."""
    flow = values.get("oauth2_config.flow", "password")
    users, clients = values.get("users", ()), values.get("clients", ())
    names = [user.username.casefold() for user in users]
    for number, name in enumerate(names):
        if name and name in names[:number]:
            notes.fault(f"users[{number}].username", "stands twice")
    if flow == "password":
        for number, client in enumerate(clients):
            if client.mailbox:
                notes.fault(f"clients[{number}].mailbox", "flow password sends as fallback_smtp_user; remove it")
    if users and flow in ("password", "client_login"):
        notes.warn("users", f"have no effect with flow {flow}: Entra ID checks every login")
    # An empty login with flow password falls back too, whatever allow_anonymous says.
    has_fallback = flow == "password" and "fallback_smtp_user" in values and "fallback_smtp_pass" in values
    if clients and not values.get("allow_anonymous") and not has_fallback:
        notes.warn("clients", "has no effect while allow_anonymous is off")
    if not users and not values.get("allow_anonymous") and flow in ("client_credentials", "managed_identity"):
        notes.warn("oauth2_config.flow", "nobody can send: there are no users, and allow_anonymous is off")
