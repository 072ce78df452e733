# SPDX-License-Identifier: MIT
"""The configuration as one frozen dataclass tree, and the table of keys it is made of.

Each field carries its YAML key, kind, range, unit, default and one sentence of documentation. Reading the
file (configfile.py), conf/config.yaml and docs/configuration.md all follow from this table. Nothing here may
read a file or know YAML.
"""
# ruff: noqa: RUF009 - _key() is dataclasses.field() with our own metadata

from __future__ import annotations

import dataclasses
import ipaddress
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from relay.credentials import Secret

Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

Kind = Literal[
    "text",  # any string; like all that is written as a string, it may be {env: NAME} or {file: PATH}
    "secret",  # a string that is never shown
    "secrets",  # one of them, or a list of two: the one in use, and the one to be tried when it is refused
    "boolean",
    "integer",
    "choice",  # one of a few words, in any case
    "address",  # HOST:PORT to listen on
    "addresses",  # one of them, or a list
    "network",  # a CIDR block or a single address, or a list
    "networks",  # a list of CIDR blocks or single addresses; an empty list means none
    "texts",  # a list of strings
    "url",  # https://HOST[:PORT]
    "path",  # a file that must be readable
    "mailbox",  # local-part@domain
    "rate",  # NUMBER/min, or /s, /h
    "date",  # YYYY-MM-DD
    "processes",  # a number, or auto: 0
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
    of: type[Any] = object  # the dataclass of a table
    zero_is_default: bool = False  # azureSMTPwithOAuth takes 0 for "not set" in these,
    negative_is_default: bool = False  # and in this one everything below
    required: bool = False
    unless: str = ""  # not required where this key of the same table is given
    flows: tuple[str, ...] = ()  # required only with these values of flow, in the same table; none: with any


def _key(path: str, kind: Kind, default: Any, doc: str, **facts: Any) -> Any:
    key = Key(path=path, kind=kind, doc=doc, default=default, **facts)
    return field(default=default, metadata={"key": key})


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where to accept connections. host "" means every address; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in so many seconds."""

    number: int
    period_s: int

    @property
    def interval_s(self) -> float:
        """Seconds from one to the next."""
        return self.period_s / self.number


DEFAULT_ADDRESSES = (ListenAddress("127.0.0.1", 2526),)


def _networks(*blocks: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(block) for block in blocks)


PRIVATE_NETWORKS: tuple[Network, ...] = (
    *_networks("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
    *_networks("::1/128", "fc00::/7", "fe80::/10"),
)

# Entra ID's and Graph's address in each cloud, by the name that the key cloud takes.
CLOUDS = {
    "global": ("https://login.microsoftonline.com", "https://graph.microsoft.com"),
    "usgov": ("https://login.microsoftonline.us", "https://graph.microsoft.us"),
    "usgov_dod": ("https://login.microsoftonline.us", "https://dod-graph.microsoft.us"),
    "china": ("https://login.partner.microsoftonline.cn", "https://microsoftgraph.chinacloudapi.cn"),
    "bleu": ("https://login.sovcloud-identity.fr", "https://graph.svc.sovcloud.fr"),
    "delos": ("https://login.sovcloud-identity.de", "https://graph.svc.sovcloud.de"),
    "govsg": ("https://login.sovcloud-identity.sg", "https://graph.svc.sovcloud.sg"),
}

OLD_TLS = ("TLSv1", "TLSv1.1")
# OpenSSL 3 speaks these only at security level 0, where small keys and SHA-1 signatures are allowed. Devices that need
# them often know RSA key exchange alone, which Python's own list leaves out.
OLD_TLS_CIPHERS = "DEFAULT:@SECLEVEL=0"
FLOWS = ("password", "client_credentials", "managed_identity", "client_login")

# The tree. Every entry reads: name, kind, default; then the sentence; then what else holds for it.
# fmt: off


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    path: str = _key("log", "text", "",
        "Log file; a bare file name lies beside the configuration file, empty means standard output.")
    level: str = _key("log_level", "choice", "info",
        "The least severe lines that are logged.",
        choices=("debug", "info", "warn", "error"))
    format: str = _key("log_format", "choice", "auto",
        "Form of a log line; auto is text on a terminal and JSON elsewhere.",
        choices=("auto", "text", "json"))
    debug_client: str = ""  # run --debug-session: all lines of this client, whatever the level


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenConfig:
    addresses: tuple[ListenAddress, ...] = _key("listen_addr", "addresses", DEFAULT_ADDRESSES,
        "Address to accept SMTP on, or a list of them; :2526 means every address, port 0 picks a free port.")
    hostname: str = _key("hostname", "text", "",
        "Name in the banner and in the EHLO reply; empty means the machine's full name.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    cert_file: str = _key("tls.cert_file", "path", "",
        "PEM file with the certificate chain; with key_file it turns STARTTLS on.")
    key_file: str = _key("tls.key_file", "path", "",
        "PEM file with the private key.")
    min_version: str = _key("tls.min_version", "choice", "TLSv1.2",
        "Oldest TLS version accepted; TLSv1 only for devices that know no better.",
        choices=(*OLD_TLS, "TLSv1.2", "TLSv1.3"))
    implicit_addresses: tuple[ListenAddress, ...] = _key("tls.implicit_addr", "addresses", (),
        "Address or addresses for TLS from the first byte (port 465).")
    require_for_auth: bool = _key("tls.require_for_auth", "boolean", True,
        "Offer and accept AUTH only after STARTTLS.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    max_message_bytes: int = _key("max_message_size", "integer", 26214400,
        "Largest message accepted.",
        unit="octets", lowest=1, highest=1 << 30, zero_is_default=True)
    max_connections: int = _key("max_connections", "integer", 100,
        "SMTP connections at a time; one more is answered 421.",
        lowest=1, highest=100000, zero_is_default=True)
    connection_timeout_s: int = _key("connection_timeout", "integer", 300,
        "How long one connection may last.",
        unit="seconds", lowest=1, highest=31536000, zero_is_default=True)
    command_timeout_s: int = _key("command_timeout", "integer", 60,
        "How long a client may take for its next command or block of data.",
        unit="seconds", lowest=1, highest=3600)
    shutdown_timeout_s: int = _key("shutdown_timeout", "integer", 30,
        "How long messages in flight may take to finish at a stop.",
        unit="seconds", lowest=0, highest=3600)
    max_recipients: int = _key("max_recipients", "integer", 500,
        "Recipients in one message; Graph takes 500.",
        lowest=1, highest=1000)
    max_inflight_bytes: int = _key("max_inflight_bytes", "integer", 536870912,
        "All messages being handled at a time; above it the client gets 452.",
        unit="octets", lowest=1, highest=1 << 40)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthLimit:
    failures: int = _key("failures", "integer", 10,
        "Failed logins of one client address within the window.", lowest=1, highest=100000)
    window_s: int = _key("window", "integer", 60,
        "Length of the window.", unit="seconds", lowest=1, highest=86400)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessConfig:
    fallback_user: str = _key("fallback_smtp_user", "text", "",
        "Microsoft 365 user that sends for clients without a login.")
    fallback_password: Secret = _key("fallback_smtp_pass", "secret", Secret(""),
        "Password of that user.")
    allow_anonymous: bool = _key("allow_anonymous", "boolean", False,
        "Accept mail without AUTH from the anonymous_networks; needs both fallback credentials.")
    allowed_networks: tuple[Network, ...] = _key("allowed_networks", "networks", (),
        "Clients that may connect at all; empty means any.")
    anonymous_networks: tuple[Network, ...] = _key("anonymous_networks", "networks", PRIVATE_NETWORKS,
        "Clients for which allow_anonymous and the fallback credentials hold; empty means none.")
    auth_limit: AuthLimit = _key("auth_limit", "table", AuthLimit(),
        "Failed logins of one client address before it gets 421.", of=AuthLimit)
    bare_lf_networks: tuple[Network, ...] = _key("bare_lf_networks", "networks", (),
        "Old devices for which a bare LF ends a line of the message data too.")
    proxy_protocol_networks: tuple[Network, ...] = _key("proxy_protocol_networks", "networks", (),
        "Load balancers that speak PROXY v1 or v2 before SMTP.")


@dataclass(frozen=True, slots=True, kw_only=True)
class EntraConfig:
    flow: str = _key("oauth2_config.flow", "choice", "password",
        "Who Entra ID is asked as: the SMTP client itself (password, client_login), or the app.",
        choices=FLOWS)
    client_id: str = _key("oauth2_config.client_id", "text", "",
        "Application (client) ID of the app registration, or of a user-assigned managed identity.",
        required=True, flows=("password", "client_credentials"))
    client_secrets: tuple[Secret, ...] = _key("oauth2_config.client_secret", "secrets", (),
        "Value of a client secret of the app registration; of two, the second is tried when the first is refused.",
        required=True, unless="client_certificate", flows=("password", "client_credentials"))
    tenant_id: str = _key("oauth2_config.tenant_id", "text", "",
        "Directory (tenant) ID, or a domain of the tenant.", required=True,
        flows=("password", "client_credentials"))
    scopes: tuple[str, ...] = _key("oauth2_config.scopes", "texts", ("https://graph.microsoft.com/.default",),
        "Scopes asked for; the default stands for /.default of Graph in the cloud that cloud or graph_url names.")
    client_certificate: str = _key("oauth2_config.client_certificate", "path", "",
        "PEM file with key and certificate, instead of client_secret, which then is its pass phrase.")
    authority: str = _key("oauth2_config.authority", "url", CLOUDS["global"][0],
        "Entra ID's address; may carry a port.")
    secret_expires: str = _key("secret_expires", "date", "",
        "Date on which the client secret ends; warnings from 30 days before.")


@dataclass(frozen=True, slots=True, kw_only=True)
class UserConfig:
    username: str = _key("username", "text", "", "Name that the device logs in with.", required=True)
    password_hash: Secret = _key("password_hash", "secret", Secret(""),
        "Made by graph-smtp-relay hash-password.", required=True)
    mailbox: str = _key("mailbox", "mailbox", "", "Mailbox that sends for this user.", required=True)
    allowed_from: tuple[str, ...] = _key("allowed_from", "texts", (),
        "Senders allowed: addresses, in which * is any text, such as *@example.com; empty means any.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    network: tuple[Network, ...] = _key("network", "network", (),
        "Addresses of these devices.", required=True)
    mailbox: str = _key("mailbox", "mailbox", "", "Mailbox that sends for them.")
    allowed_from: tuple[str, ...] = _key("allowed_from", "texts", (),
        "Senders allowed: addresses, in which * is any text, such as *@example.com; empty means any.")
    allowed_recipients: tuple[str, ...] = _key("allowed_recipients", "texts", (),
        "Recipients allowed: addresses, in which * is any text; empty means any.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountsConfig:
    users: tuple[UserConfig, ...] = _key("users", "tables", (),
        "Local SMTP users, for the flows of the app; each with the mailbox that sends.", of=UserConfig)
    clients: tuple[ClientConfig, ...] = _key("clients", "tables", (),
        "Policy for clients without a login, by network; the first match wins.", of=ClientConfig)
    default_mailbox: str = _key("default_mailbox", "mailbox", "",
        "Mailbox that sends for other anonymous clients; empty means that of the From address.")


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphConfig:
    url: str = _key("graph_url", "url", CLOUDS["global"][1],
        "Microsoft Graph's address; may carry a port.")
    cloud: str = _key("cloud", "choice", "global",
        "Sets authority and graph_url for a national cloud, where they are not given.",
        choices=tuple(CLOUDS))
    https_proxy: Secret = _key("https_proxy", "secret", Secret(""),
        "Proxy for Entra ID and Graph, http://[USER:PASSWORD@]HOST:PORT; empty means the environment's.")
    ca_bundle: str = _key("ca_bundle", "path", "",
        "PEM file of certification authorities for Entra ID and Graph, instead of the built-in ones.")
    format: str = _key("graph_format", "choice", "auto",
        "Form in which a message goes to Graph; auto picks what keeps the most of it.",
        choices=("auto", "json", "mime"))
    save_to_sent: bool = _key("save_to_sent", "boolean", False,
        "Keep a copy in Sent Items.")
    strict_attachments: bool = _key("strict_attachments", "boolean", False,
        "Refuse a message with an attachment that cannot be decoded.", zero_is_default=True)
    single_request_limit_bytes: int = _key("single_request_limit", "integer", 4000000,
        "Largest body of one request to Graph; a larger message goes as a draft, which needs Mail.ReadWrite.",
        unit="octets", lowest=1024, highest=157286400)
    sender_rewrite: str = _key("sender_rewrite", "choice", "never",
        "When to put the mailbox into From and the original into Reply-To.",
        choices=("never", "on_denied", "always"))
    retry_attempts: int = _key("retry_attempts", "integer", 3,
        "Tries for one message.",
        lowest=1, highest=1000, zero_is_default=True, negative_is_default=True)
    retry_initial_delay_ms: int = _key("retry_initial_delay", "integer", 500,
        "Wait before the second try; it doubles with each further one.",
        unit="milliseconds", lowest=1, highest=3600000, zero_is_default=True)
    submit_timeout_s: int = _key("submit_timeout", "integer", 110,
        "From the end of the data to the reply, all waits and retries included.",
        unit="seconds", lowest=1, highest=3600)
    delete_sent_drafts: bool = _key("delete_sent_drafts", "boolean", False,
        "With save_to_sent off: ask Exchange to keep no copy of large mail either, which goes as a draft. "
        "Nobody has confirmed yet that Graph heeds the property (PidTagDeleteAfterSubmit).")
    ambiguous_outcome: str = _key("ambiguous_outcome", "choice", "retry",
        "What to do after a failure behind which the message may have gone.",
        choices=("retry", "give_up"))
    mailbox_concurrency: int = _key("mailbox_concurrency", "integer", 4,
        "Requests at a time for one mailbox; Graph takes 4.", lowest=1, highest=64)
    mailbox_rate: Rate | None = _key("mailbox_rate", "rate", None,
        "Pacing for one mailbox, such as 30/min: messages leave evenly spaced; empty means none.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminConfig:
    addr: ListenAddress | None = _key("admin_addr", "address", None,
        "Address of the admin page and the metrics; empty means off.")
    password_hash: Secret = _key("admin_password_hash", "secret", Secret(""),
        "Asks for a password on the admin page and /metrics.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessConfig:
    workers: int = _key("workers", "processes", 1,
        "Processes that take mail; auto means one for each core that the service may use.", lowest=1, highest=256)


# fmt: on


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
    """The keys of one dataclass, in the order of its fields, those of its branches included."""
    found: list[Key] = []
    for branch in dataclasses.fields(tree):
        if "key" in branch.metadata:
            found.append(branch.metadata["key"])
        elif dataclasses.is_dataclass(branch.default):
            found.extend(keys_of(type(branch.default)))
    return tuple(found)
