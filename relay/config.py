# SPDX-License-Identifier: MIT
"""The configuration as one frozen dataclass tree, and the table of keys it is made of.

Each field carries its YAML key, kind, range, unit, default and one sentence of documentation; reading the file
(configfile.py), conf/config.yaml and docs/configuration.md all follow from this table. Nothing here reads a file.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from relay.credentials import Secret

Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

Kind = Literal[
    "text",  # any string; {env: NAME} and {file: PATH} are allowed
    "secret",  # a string that is never shown
    "boolean",
    "integer",
    "choice",
    "address",  # HOST:PORT to listen on
    "addresses",  # one of them, or a list
    "networks",  # a list of CIDR blocks or single addresses
    "texts",  # a list of strings
    "url",  # https://HOST[:PORT]
    "path",  # a file that must be readable
    "mailbox",  # local-part@domain
    "date",  # YYYY-MM-DD
    "table",  # a mapping of its own keys
    "tables",  # a list of such mappings
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What the configuration file may say under one name. path: dotted, as written in YAML."""

    path: str
    kind: Kind
    doc: str
    default: Any = None
    unit: str = ""
    lowest: int | None = None
    highest: int | None = None
    choices: tuple[str, ...] = ()
    zero_is_default: bool = False  # azureSMTPwithOAuth takes 0 for "not set" in these
    required: bool = False
    available: bool = True  # False: refused with "not available in this version"
    later: tuple[str, ...] = ()  # of the choices, those that are not available in this version
    shown_default: str = ""  # where the default is computed, what the documentation says of it


def _key(path: str, kind: Kind, doc: str, default: Any = None, **facts: Any) -> Any:
    key = Key(path=path, kind=kind, doc=doc, default=default, **facts)
    return field(default=default, metadata={"key": key})


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where to accept connections. host "" means every address; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _networks(*blocks: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(block) for block in blocks)


PRIVATE_NETWORKS: tuple[Network, ...] = _networks(
    "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    path: str = _key("log", "text", "Log file; a bare file name lies beside the configuration file, empty means standard output.", "")
    level: str = _key("log_level", "choice", "The least severe lines that are logged.", "info", choices=("debug", "info", "warn", "error"))
    format: str = _key(
        "log_format", "choice", "Form of a log line; auto is text on a terminal and JSON elsewhere.", "auto", choices=("auto", "text", "json")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenConfig:
    addresses: tuple[ListenAddress, ...] = _key(
        "listen_addr",
        "addresses",
        "Address to accept SMTP on, or a list of them; :2526 means every address, port 0 picks a free port.",
        (ListenAddress("127.0.0.1", 2526),),
        shown_default="127.0.0.1:2526",
    )
    hostname: str = _key("hostname", "text", "Name in the banner and in the EHLO reply; empty means the machine's full name.", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    cert_file: str = _key("tls.cert_file", "path", "PEM file with the certificate chain; with key_file it turns STARTTLS on.", "", available=False)
    key_file: str = _key("tls.key_file", "path", "PEM file with the private key.", "", available=False)
    min_version: str = _key(
        "tls.min_version", "choice", "Oldest TLS version accepted; TLSv1 only for devices that know no better.", "TLSv1.2",
        choices=("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"), available=False,
    )  # fmt: skip
    implicit_addresses: tuple[ListenAddress, ...] = _key(
        "tls.implicit_addr", "addresses", "Address or addresses for TLS from the first byte (port 465).", (), shown_default='""', available=False
    )
    require_for_auth: bool = _key("tls.require_for_auth", "boolean", "Offer and accept AUTH only after STARTTLS.", True, available=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    max_message_bytes: int = _key(
        "max_message_size", "integer", "Largest message accepted.", 26214400, unit="octets", lowest=1024, highest=157286400, zero_is_default=True
    )
    max_connections: int = _key(
        "max_connections", "integer", "SMTP connections at a time; one more is answered 421.", 100, lowest=1, highest=100000, zero_is_default=True
    )
    connection_timeout_s: int = _key(
        "connection_timeout", "integer", "How long one connection may last.", 300, unit="seconds", lowest=1, highest=86400, zero_is_default=True
    )
    command_timeout_s: int = _key(
        "command_timeout", "integer", "How long a client may take for its next command or block of data.", 60, unit="seconds", lowest=1, highest=3600
    )
    shutdown_timeout_s: int = _key(
        "shutdown_timeout", "integer", "How long messages in flight may take to finish at a stop.", 30, unit="seconds", lowest=0, highest=3600
    )
    max_recipients: int = _key("max_recipients", "integer", "Recipients in one message; Graph takes 500.", 500, lowest=1, highest=1000)
    max_inflight_bytes: int = _key(
        "max_inflight_bytes", "integer", "Octets of all messages being handled at a time; above it the client gets 452.", 536870912,
        unit="octets", lowest=1048576, highest=1 << 40, available=False,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthLimit:
    failures: int = _key("failures", "integer", "Failed logins of one client address within the window.", 10, lowest=1, highest=100000)
    window_s: int = _key("window", "integer", "Length of the window.", 60, unit="seconds", lowest=1, highest=86400)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessConfig:
    fallback_user: str = _key("fallback_smtp_user", "text", "Microsoft 365 user that sends for clients without a login.", "")
    fallback_password: Secret = _key("fallback_smtp_pass", "secret", "Password of that user.", Secret(""), shown_default='""')
    allow_anonymous: bool = _key("allow_anonymous", "boolean", "Accept mail without AUTH from the anonymous_networks.", False)
    allowed_networks: tuple[Network, ...] = _key(
        "allowed_networks", "networks", "Clients that may connect at all; empty means any.", (), shown_default="[]"
    )
    anonymous_networks: tuple[Network, ...] = _key(
        "anonymous_networks", "networks", "Clients for which allow_anonymous and the fallback credentials hold.", PRIVATE_NETWORKS,
        shown_default="loopback and private ranges",
    )  # fmt: skip
    auth_limit: AuthLimit = _key(
        "auth_limit", "table", "Failed logins of one client address before it gets 421.", AuthLimit(), shown_default="{failures: 10, window: 60}",
        available=False,
    )  # fmt: skip
    bare_lf_networks: tuple[Network, ...] = _key(
        "bare_lf_networks", "networks", "Old devices for which a bare LF ends a line of the message data too.", (), shown_default="[]", available=False
    )
    proxy_protocol_networks: tuple[Network, ...] = _key(
        "proxy_protocol_networks", "networks", "Load balancers that speak PROXY v1 or v2 before SMTP.", (), shown_default="[]", available=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EntraConfig:
    flow: str = _key(
        "oauth2_config.flow", "choice", "How tokens are had: password asks Entra ID with the login of the SMTP client.", "password",
        choices=("password", "client_credentials", "managed_identity", "client_login"),
        later=("client_credentials", "managed_identity", "client_login"),
    )  # fmt: skip
    client_id: str = _key("oauth2_config.client_id", "text", "Application (client) ID of the app registration.", "", required=True)
    client_secret: Secret = _key("oauth2_config.client_secret", "secret", "A client secret's value.", Secret(""), shown_default='""', required=True)
    tenant_id: str = _key("oauth2_config.tenant_id", "text", "Directory (tenant) ID, or a domain of the tenant.", "", required=True)
    scopes: tuple[str, ...] = _key(
        "oauth2_config.scopes", "texts", "Scopes asked for.", (), shown_default="[https://graph.microsoft.com/.default]"
    )
    client_certificate: str = _key(
        "oauth2_config.client_certificate", "path", "PEM file with key and certificate, instead of client_secret.", "", available=False
    )
    authority: str = _key(
        "oauth2_config.authority", "url", "Entra ID's address; may carry a port.", "", shown_default="https://login.microsoftonline.com"
    )
    secret_expires: str = _key("secret_expires", "date", "Date on which the client secret ends; warnings from 30 days before.", "", available=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserConfig:
    username: str = _key("username", "text", "Name that the device logs in with.", "", required=True)
    password_hash: Secret = _key("password_hash", "secret", "Made by graph-smtp-relay hash-password.", Secret(""), required=True)
    mailbox: str = _key("mailbox", "mailbox", "Mailbox that sends for this user.", "", required=True)
    allowed_from: tuple[str, ...] = _key("allowed_from", "texts", "Senders allowed: addresses or *@domain; empty means any.", (), shown_default="[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    network: tuple[Network, ...] = _key("network", "networks", "Addresses of these devices.", (), required=True)
    mailbox: str = _key("mailbox", "mailbox", "Mailbox that sends for them.", "")
    allowed_from: tuple[str, ...] = _key("allowed_from", "texts", "Senders allowed: addresses or *@domain; empty means any.", (), shown_default="[]")
    allowed_recipients: tuple[str, ...] = _key("allowed_recipients", "texts", "Recipients allowed; empty means any.", (), shown_default="[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountsConfig:
    users: tuple[UserConfig, ...] = _key("users", "tables", "Local SMTP users, each with the mailbox that sends.", (), shown_default="[]", available=False)
    clients: tuple[ClientConfig, ...] = _key("clients", "tables", "Policy by network; the first match wins.", (), shown_default="[]", available=False)
    default_mailbox: str = _key("default_mailbox", "mailbox", "Mailbox that sends for other anonymous clients.", "", available=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphConfig:
    url: str = _key("graph_url", "url", "Microsoft Graph's address; may carry a port.", "", shown_default="https://graph.microsoft.com")
    cloud: str = _key(
        "cloud", "choice", "Sets authority and graph_url for a national cloud.", "global",
        choices=("global", "usgov", "usgov_dod", "china", "bleu", "delos", "govsg"),
    )  # fmt: skip
    https_proxy: str = _key("https_proxy", "text", "Proxy for Entra ID and Graph, as http://HOST:PORT; empty means HTTPS_PROXY of the environment.", "")
    ca_bundle: str = _key("ca_bundle", "path", "PEM file of certification authorities, instead of the built-in ones, for Entra ID and Graph.", "")
    format: str = _key(
        "graph_format", "choice", "Form in which a message goes to Graph; auto picks what keeps the most of it.", "auto",
        choices=("auto", "json", "mime"), later=("mime",),
    )  # fmt: skip
    save_to_sent: bool = _key("save_to_sent", "boolean", "Keep a copy in Sent Items.", False)
    strict_attachments: bool = _key("strict_attachments", "boolean", "Refuse a message with an attachment that cannot be decoded.", False)
    single_request_limit_bytes: int = _key(
        "single_request_limit", "integer", "Largest body of one request to Graph.", 4000000, unit="octets", lowest=65536, highest=157286400
    )
    sender_rewrite: str = _key(
        "sender_rewrite", "choice", "When to put the mailbox into From and the original into Reply-To.", "never",
        choices=("never", "on_denied", "always"), later=("on_denied", "always"),
    )  # fmt: skip
    retry_attempts: int = _key("retry_attempts", "integer", "Tries for one message.", 3, lowest=1, highest=20, zero_is_default=True)
    retry_initial_delay_ms: int = _key(
        "retry_initial_delay", "integer", "Wait before the second try; it doubles with each further one.", 500,
        unit="milliseconds", lowest=1, highest=60000, zero_is_default=True,
    )  # fmt: skip
    submit_timeout_s: int = _key(
        "submit_timeout", "integer", "From the end of the data to the reply, all waits and retries included.", 110, unit="seconds", lowest=1, highest=3600
    )
    ambiguous_outcome: str = _key(
        "ambiguous_outcome", "choice", "What to do after a failure behind which the message may have gone.", "retry",
        choices=("retry", "give_up"), available=False,
    )  # fmt: skip
    mailbox_concurrency: int = _key(
        "mailbox_concurrency", "integer", "Requests at a time for one mailbox.", 4, lowest=1, highest=64, available=False
    )
    mailbox_rate: str = _key("mailbox_rate", "text", "Pacing for one mailbox, such as 30/min; empty means none.", "", available=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminConfig:
    addr: ListenAddress | None = _key("admin_addr", "address", "Address of the admin page and the metrics; empty means off.", None, shown_default='""', available=False)
    password_hash: Secret = _key(
        "admin_password_hash", "secret", "Asks for a password on the admin page and /metrics.", Secret(""), shown_default='""', available=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessConfig:
    workers: int = _key("workers", "integer", "Processes; auto means one a core.", 1, lowest=1, highest=256, available=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All of it. Made by configfile.load() and never changed; a reload makes a second one."""

    log: LogConfig = LogConfig()
    listen: ListenConfig = ListenConfig()
    tls: TlsConfig = TlsConfig()
    limits: LimitsConfig = LimitsConfig()
    access: AccessConfig = AccessConfig()
    entra: EntraConfig = EntraConfig()
    accounts: AccountsConfig = AccountsConfig()
    graph: GraphConfig = GraphConfig()
    admin: AdminConfig = AdminConfig()
    process: ProcessConfig = ProcessConfig()
    warnings: tuple[str, ...] = ()  # to be logged at the start


def keys_of(tree: type[Any]) -> tuple[Key, ...]:
    """The keys of one dataclass, in the order of its fields."""
    return tuple(f.metadata["key"] for f in dataclasses.fields(tree) if "key" in f.metadata)
