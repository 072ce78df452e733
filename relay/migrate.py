# SPDX-License-Identifier: MIT
"""migrate: another relay's configuration → one for this program, and what of it has no counterpart here.

Knows the three other programs' keys; what ours mean is in config.py. Sources: azureSMTPwithOAuth 1.1.3 (README),
SMTP2Graph (config.schema.json), smtp-oauth-relay (docs/configuration.md).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from relay import configvalue, configyaml
from relay.config import Key
from relay.configfile import KEYS
from relay.configvalue import BadValue
from relay.configyaml import YamlFault
from relay.credentials import hash_password

Settings = dict[str, Any]  # as the YAML that is written
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_SIZE = re.compile(r"([0-9]+)([km])", re.IGNORECASE)
_VARIABLE = re.compile(r"\s*(?:-\s+)?(?:export\s+)?['\"]?([A-Z_]+)['\"]?\s*[=:]\s*(.*?)(?:\s+#.*)?\s*")
_ENCRYPTED = "__SYSTEMENCRYPTED__"
_COUNT = Key(path="", kind="integer", doc="", lowest=1, highest=86400)
_EVERYWHERE = ["0.0.0.0/0", "::/0"]
_HEAD = """\
# Configuration of graph-smtp-relay, made by its command migrate from one of {program}.
# docs/configuration.md lists every key. It may hold secrets: keep it readable for the service alone.
"""


class CannotMigrate(Exception):
    """Why their file cannot be read. Holds nothing of its text."""


class Migration:
    """One file's way into ours."""

    def __init__(self, directory: Path, mailbox: str) -> None:
        """directory: where their relative paths start. mailbox: sends where theirs names none; may be empty."""
        self.settings: Settings = {}
        self.notes: list[str] = []  # one line each: what has no counterpart, or wants a look
        self._directory = directory
        self._mailbox = mailbox

    def note(self, key: str, text: str) -> None:
        self.notes.append(f"{key}: {text}")

    def put(self, path: str, value: Any) -> None:
        """Set a key of ours; its path may lead into a table."""
        table, _, name = path.rpartition(".")
        (self.settings.setdefault(table, {}) if table else self.settings)[name] = value

    def path_of(self, text: str) -> str:
        return str((self._directory / text).absolute())

    # azureSMTPwithOAuth

    def azuresmtpwithoauth(self, theirs: Settings) -> None:
        """The keys are ours too; what is taken out is what would stop the start here."""
        for path, value in _flat(theirs):
            key = KEYS.get(path)
            if path == "health_addr":
                self.note(path, "was ignored there since 1.1.1; admin_addr is what there is here")
            elif key is None:
                self.note(path, "unknown, and ignored there; left out")
            elif isinstance(value, str) and value.startswith(_ENCRYPTED):
                name = f"RELAY_{path.rpartition('.')[2].upper()}"
                self.put(path, {"env": name})
                self.note(
                    path, f"can only be read on the Windows machine that encrypted it: enter it again, or set ${name}"
                )
            elif path == "log" and value and Path(value).name == value:
                self.put(path, self.path_of(value))  # beside the file, and that may be moved now
            elif value != "":
                self._put_typed(path, key, value)

    def _put_typed(self, path: str, key: Key, value: Any) -> None:
        """Theirs are strings as written; a number and a truth value stand without quotes."""
        try:
            if key.kind == "integer":
                value = configvalue.integer(value, key)
            elif key.kind == "boolean":
                value = False if value == "0" and key.zero_is_default else configvalue.boolean(value)
        except (BadValue, AttributeError) as fault:
            self.note(path, f"{fault}; left out")
        else:
            if value is not None:
                self.put(path, value)

    # SMTP2Graph

    def smtp2graph(self, theirs: Settings) -> None:
        """There the app sends, from the mailbox of the From address unless forceMailbox says another."""
        send, receive = _table(theirs, "send"), _table(theirs, "receive")
        if (mode := _text(theirs, "mode") or "full") != "full":
            self.note("mode", f"{mode} has no counterpart: nothing is queued here, each message goes to Graph at once")
        self._smtp2graph_app(_table(send, "appReg"))
        forced = _text(send, "forceMailbox") or self._mailbox
        if forced:
            self.put("default_mailbox", forced)
        for key in ("retryLimit", "retryInterval"):
            if send.pop(key, None) is not None:
                self.note(f"send.{key}", "nothing is queued here: the client is told 4xx and sends again")
        if send.pop("mode", None) is not None:
            self.note("send.mode", "each message's form is chosen by what keeps the most of it; see graph_format")
        self.put("save_to_sent", True)
        self.note("save_to_sent", "on, since SMTP2Graph leaves a copy in Sent Items; off leaves none")
        self._smtp2graph_doors(receive)
        self._smtp2graph_access(receive, forced)
        if proxy := _table(theirs, "httpProxy"):
            user, password = (quote(_text(proxy, name), safe="") for name in ("username", "password"))
            where = f"{f'{user}:{password}@' if user else ''}{_text(proxy, 'host')}:{_text(proxy, 'port')}"
            self.put("https_proxy", f"{_text(proxy, 'protocol') or 'http'}://{where}")
        for key in (*theirs, *(f"send.{key}" for key in send), *(f"receive.{key}" for key in receive)):
            if key not in ("send", "receive", "httpProxy", "send.appReg", "receive.authLimit"):
                self.note(key, "unknown; left out")

    def _smtp2graph_app(self, app: Settings) -> None:
        tenant = _text(app, "tenant")
        is_whole = "." in tenant or _GUID.fullmatch(tenant)
        self.put("oauth2_config.flow", "client_credentials")
        self.put("oauth2_config.tenant_id", tenant if is_whole else f"{tenant}.onmicrosoft.com")
        self.put("oauth2_config.client_id", _text(app, "id"))
        certificate = _table(app, "certificate")
        if secret := _text(app, "secret"):
            self.put("oauth2_config.client_secret", secret)
        elif certificate:
            self.put("oauth2_config.client_certificate", self.path_of(_text(certificate, "privateKeyPath")))
            self.note(
                "send.appReg.certificate",
                "append the certificate to the file with the key: client_certificate is one PEM file with both; "
                "the thumbprint is not needed",
            )

    def _smtp2graph_doors(self, receive: Settings) -> None:
        host, port = _text(receive, "listenAddress"), _text(receive, "port") or "25"
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        cert, key = _text(receive, "tlsCertPath"), _text(receive, "tlsKeyPath")
        if cert and key:
            self.put("tls.cert_file", self.path_of(cert))
            self.put("tls.key_file", self.path_of(key))
        if _is_true(receive, "secure"):
            self.put("tls.implicit_addr", address)
            self.note("receive.secure", "listen_addr stays beside it, for plain SMTP on loopback (127.0.0.1:2526)")
            if not cert:
                self.note("receive.secure", "needs a certificate here: graph-smtp-relay tls-cert makes one")
        else:
            self.put("listen_addr", address)
        if _is_true(receive, "allowInsecureAuth") and cert:
            self.put("tls.require_for_auth", False)
        if found := _SIZE.fullmatch(_text(receive, "maxSize")):
            self.put("max_message_size", int(found[1]) * (1024 if found[2] in "kK" else 1024 * 1024))
        else:
            self.note("receive.maxSize", "100m was the default there; max_message_size is 25 MiB here")
        if limit := _table(receive, "authLimit"):
            failures, window = _text(limit, "limit") or "10", _text(limit, "duration") or "60"
            for name, number in (("failures", failures), ("window", window)):
                self._put_typed(f"auth_limit.{name}", _COUNT, number)
        if receive.pop("banner", None) is not None:
            self.note("receive.banner", "no counterpart; hostname is the name in the banner")
        if receive.pop("rateLimit", None) is not None:
            self.note("receive.rateLimit", "no counterpart; max_connections and mailbox_rate bound what goes through")

    def _smtp2graph_access(self, receive: Settings, forced: str) -> None:
        networks = _networks(_texts(receive, "ipWhitelist")) if receive.get("ipWhitelist") else None
        allowed_from, allowed_recipients = _texts(receive, "allowedFrom"), _texts(receive, "allowedRcpt")
        users = receive.pop("users", None)
        users = [user for user in users if isinstance(user, dict)] if isinstance(users, list) else []
        if networks is not None:
            self.put("allowed_networks", networks)
        if users:
            self.put("users", [self._smtp2graph_user(user, allowed_from, forced) for user in users])
            if allowed_recipients:
                self.note("receive.allowedRcpt", "holds for clients without a login only (clients)")
        if _is_true(receive, "requireAuth"):
            return
        self.put("allow_anonymous", True)
        if networks is not None:
            self.put("anonymous_networks", networks)
        else:
            self.note("receive.requireAuth", "mail without a login is taken from loopback and private addresses only")
        if allowed_from or allowed_recipients:
            policy = {"network": _EVERYWHERE, "allowed_from": allowed_from, "allowed_recipients": allowed_recipients}
            self.put("clients", [{key: value for key, value in policy.items() if value}])

    def _smtp2graph_user(self, user: Settings, allowed_from: list[str], forced: str) -> Settings:
        name = _text(user, "username")
        allowed = _texts(user, "allowedFrom") or allowed_from
        mailbox = forced or (allowed[0] if allowed else name if "@" in name else "")
        if not mailbox:
            self.note(f"user {name}", "give the mailbox that sends: --mailbox, or users.mailbox in the new file")
        elif not forced:
            self.note(f"user {name}", f"sends from {mailbox}; there it was the From address's mailbox")
        made = {"username": name, "password_hash": hash_password(_text(user, "password")), "mailbox": mailbox}
        return made | ({"allowed_from": allowed} if allowed else {})

    # smtp-oauth-relay

    def smtp_oauth_relay(self, theirs: Mapping[str, str]) -> None:
        """There each client logs in as an app. theirs: environment variables."""
        left = dict(theirs)
        self.put("listen_addr", ":8025")
        self.put("oauth2_config.flow", "client_login")
        self.put("save_to_sent", True)
        self.note("save_to_sent", "on, since smtp-oauth-relay leaves a copy in Sent Items; off leaves none")
        level = left.pop("LOG_LEVEL", "WARNING").lower()
        self.put("log_level", {"warning": "warn", "critical": "error"}.get(level, level))
        if self.settings["log_level"] in ("warn", "error"):
            self.note("LOG_LEVEL", "from info on, the log has a line for each message")
        source = left.pop("TLS_SOURCE", "file").lower()
        cert, key = left.pop("TLS_CERT_FILEPATH", "certs/cert.pem"), left.pop("TLS_KEY_FILEPATH", "certs/key.pem")
        if source == "file":
            self.put("tls.cert_file", self.path_of(cert))
            self.put("tls.key_file", self.path_of(key))
            if left.get("REQUIRE_TLS", "true").lower() == "false":
                self.put("tls.require_for_auth", False)
        elif source == "keyvault":
            self.note("TLS_SOURCE", "no counterpart to a key vault: put certificate and key into files, and set tls")
        left.pop("REQUIRE_TLS", None)
        left.pop("USERNAME_DELIMITER", None)  # all three are understood
        for name in left:
            self.note(name, _NO_COUNTERPART[name])


_NO_COUNTERPART = {
    "SERVER_GREETING": "no counterpart; hostname is the name in the banner",
    "TLS_CIPHER_SUITE": "no counterpart; tls.min_version is what there is",
    "AZURE_KEY_VAULT_URL": "no counterpart",
    "AZURE_KEY_VAULT_CERT_NAME": "no counterpart",
    "AZURE_TABLES_URL": "no counterpart: names that were looked up there become users, with flow client_credentials",
    "AZURE_TABLES_PARTITION_KEY": "no counterpart",
    "AZURE_TABLES_FORCE_USAGE": "no counterpart",
}
_VARIABLES = frozenset(_NO_COUNTERPART) | {
    *("LOG_LEVEL", "TLS_SOURCE", "REQUIRE_TLS", "TLS_CERT_FILEPATH", "TLS_KEY_FILEPATH", "USERNAME_DELIMITER"),
}


def migrated(program: str, path: Path, mailbox: str = "") -> tuple[str, list[str]]:
    """Our YAML, and notes of one line each. program: one of MIGRATE_FROM. Raises CannotMigrate."""
    migration = Migration(path.absolute().parent, mailbox)
    octets = _octets(path)
    if program == "smtp-oauth-relay":
        migration.smtp_oauth_relay(_environment(octets))
    elif program == "smtp2graph":
        migration.smtp2graph(_mapping(octets))
    else:
        migration.azuresmtpwithoauth(_mapping(octets))
    text = yaml.safe_dump(migration.settings, sort_keys=False, allow_unicode=True, width=1000)
    return _HEAD.format(program=program) + text, migration.notes


def _octets(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise CannotMigrate(f"{path}: cannot be read: {fault.strerror}") from None


def _mapping(octets: bytes) -> Settings:
    """Mappings and lists of strings, each as it was written. Raises CannotMigrate."""
    try:
        root = configyaml.compose(octets)
    except YamlFault as fault:
        raise CannotMigrate(f"line {fault.line}: {fault}") from None
    plain = _plain(root, frozenset())
    if not isinstance(plain, dict):
        raise CannotMigrate("holds no mapping of keys and values; is it the right file?")
    return plain


def _plain(node: yaml.Node | None, above: frozenset[int]) -> Any:
    if node is None or configyaml.is_nothing(node) or id(node) in above:  # an alias may lead back to where it stands
        return ""
    inside = above | {id(node)}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, inside) for child in node.value]
    if isinstance(node, yaml.MappingNode):
        pairs = (*configyaml.merged(node), *configyaml.entries(node))
        return {str(key.value): _plain(value, inside) for key, value in pairs}
    return str(node.value)


def _environment(octets: bytes) -> dict[str, str]:
    """Their variables: NAME=VALUE lines as docker and systemd read them, or the environment of a compose file."""
    values = {}
    for line in octets.decode("utf-8-sig", "replace").splitlines():
        found = _VARIABLE.fullmatch(line)
        if found and found[1] in _VARIABLES:
            values[found[1]] = found[2].strip("'\"")
    if not values:
        raise CannotMigrate("holds none of its variables, such as TLS_SOURCE; is it the right file?")
    return values


def _table(settings: Settings, name: str) -> Settings:
    """A mapping in it, an empty one where it is not one."""
    found = settings.get(name)
    return found if isinstance(found, dict) else {}


def _networks(blocks: Iterable[str]) -> list[str]:
    """Each once, without bits behind the prefix, which are a fault here; what is no network is left to check."""
    found = []
    for block in blocks:
        try:
            found.append(str(ipaddress.ip_network(block, strict=False)))
        except ValueError:
            found.append(block)
    return list(dict.fromkeys(found))


def _text(settings: Settings, name: str) -> str:
    """A string, taken out; empty where there is none."""
    found = settings.pop(name, "")
    return found if isinstance(found, str) else ""


def _texts(settings: Settings, name: str) -> list[str]:
    """A list of strings, taken out; one alone stands for a list."""
    found = settings.pop(name, None)
    elements = found if isinstance(found, list) else [found]
    return list(dict.fromkeys(one for one in elements if isinstance(one, str) and one))


def _is_true(settings: Settings, name: str) -> bool:
    return _text(settings, name).lower() in ("true", "yes", "on")


def _flat(settings: Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict) and not {"env", "file"} & set(value):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
