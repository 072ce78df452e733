# SPDX-License-Identifier: MIT
"""The configuration file: what it may say, what it means, and what is said of it when it is wrong."""

from __future__ import annotations

import dataclasses
import os
import pickle
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import configfile
from relay.config import CLOUDS, PRIVATE_NETWORKS, AuthLimit, Config, ListenAddress, UserConfig
from relay.configfile import ConfigError, load, parse
from relay.credentials import Secret, hash_password
from relay.selfsigned import make_pair
from relay.smtp import tls
from relay.vault import Vault
from tests.support import pem_files

DATA = Path(__file__).resolve().parent.parent / "data" / "config"
BAD = sorted((DATA / "bad").glob("*.yaml"))
APP = "oauth2_config: {client_id: a, client_secret: S3CRET, tenant_id: c}\n"
ENVIRON = {"SECRET": "S3CRET value/", "EMPTY": ""}


def read(text: str | bytes, *, directory: Path = Path("/etc/relay"), **environ: str) -> Config:
    return parse(text, name="config.yaml", directory=directory, environ=environ)


def faults(text: str | bytes, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, **environ)
    return list(caught.value.faults)


def faults_if_any(text: str) -> tuple[str, ...]:
    try:
        read(text)
    except ConfigError as error:
        return error.faults
    return ()


def good(name: str) -> Config:
    path = DATA / "good" / name
    return parse(path.read_bytes(), name="config.yaml", directory=Path("/etc/relay"), environ={})


# --- wrong files


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_file_gives_exactly_the_expected_faults(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(path.read_bytes(), name=path.name, directory=path.parent, environ=ENVIRON)
    assert "".join(f"{fault}\n" for fault in caught.value.faults) == path.with_suffix(".expected").read_text("utf-8")


def test_there_are_enough_bad_files() -> None:
    assert len(BAD) >= 40
    assert {path.stem for path in BAD} == {path.stem for path in (DATA / "bad").glob("*.expected")}


def test_no_fault_shows_a_value() -> None:
    for path in (DATA / "bad").glob("*.expected"):
        assert "S3CRET" not in path.read_text("utf-8"), path.name


def test_the_error_holds_no_secret_in_what_is_chained_to_it() -> None:
    with pytest.raises(ConfigError) as caught:
        read("client_secret: *S3CRET\n")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab:-? \n\t'\"{}[]&*!|>%@`#,<~0\\xU\u00e9\x00\ud800", max_size=60))
def test_any_text_gives_a_config_or_one_line_faults(text: str) -> None:
    for source in (text, f"{APP}log: {text}\n", f"{APP}{text}"):
        assert all(fault.startswith("config.yaml:") and "\n" not in fault for fault in faults_if_any(source))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_any_octets_give_a_config_or_faults(octets: bytes) -> None:
    with pytest.raises(ConfigError):
        read(octets)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(configfile.KEYS)), st.text(max_size=30))
def test_any_value_of_any_key_gives_a_config_or_faults(path: str, value: str) -> None:
    quoted = "'" + value.replace("'", "''") + "'"
    table, _, name = path.rpartition(".")
    text = f"{table}: {{{name}: {quoted}}}\n" if table else f"{name}: {quoted}\n{name}: [{quoted}]\n"
    assert all(fault.startswith("config.yaml:") for fault in faults_if_any(text))


# --- files that cannot be read


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "config.yaml", environ={})
    assert caught.value.faults == (f"{tmp_path}/config.yaml: cannot be read: No such file or directory",)


def test_directory_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, environ={})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.touch(mode=0)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        load(path, environ={})


@pytest.mark.parametrize("name", ["/dev/zero", "nul\0"])
def test_odd_file(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(Path(name), environ={})


def test_path_is_named_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("log_level: verbose\n" + APP)
    with pytest.raises(ConfigError) as caught:
        load(Path("config.yaml"))
    assert caught.value.faults == ("config.yaml:1: log_level: must be one of debug, info, warn, error",)


# --- files of azureSMTPwithOAuth


def test_seed_file_with_every_key() -> None:
    config = good("seed_every_key.yaml")
    assert config.warnings == ()
    assert config.log.path == "/etc/relay/relay.log"
    assert config.log.level == "warn"
    assert config.listen.addresses == (ListenAddress("", 2526),)
    assert config.entra.client_id == "0012"
    assert config.entra.client_secrets == (Secret("8Q~12345.abc_DEF-ghi"),)
    assert config.entra.tenant_id == "0d5c8a3e-0000-4000-8000-1234567890ab"
    assert config.entra.scopes == ("https://graph.microsoft.com/.default",)
    assert config.access.fallback_user == "yes"
    assert config.access.fallback_password == Secret("1234.50")
    assert config.access.allow_anonymous
    assert config.graph.save_to_sent
    assert config.graph.strict_attachments
    assert (config.graph.retry_attempts, config.graph.retry_initial_delay_ms) == (5, 250)
    limits = config.limits
    assert (limits.max_message_bytes, limits.max_connections, limits.connection_timeout_s) == (10485760, 50, 120)


@pytest.mark.parametrize("name", ["seed_bom.yaml", "seed_crlf.yaml", "seed_bom_crlf.yaml", "seed_utf16.yaml"])
def test_seed_file_as_windows_editors_save_it(name: str) -> None:
    assert good(name) == good("seed_every_key.yaml")


def test_data_files_kept_their_line_ends() -> None:
    assert b"\r\n" in (DATA / "good" / "seed_crlf.yaml").read_bytes()
    assert (DATA / "good" / "seed_bom_crlf.yaml").read_bytes().startswith(b"\xef\xbb\xbflog: relay.log\r\n")


def test_seed_default_file() -> None:
    config = good("seed_default.yaml")
    assert config.entra.client_id == "ClientID"
    assert config.access.fallback_password == Secret("supersecret")
    assert (config.log, config.limits) == (Config().log, Config().limits)


def test_zeros_and_blanks_mean_the_defaults() -> None:
    config = good("seed_zeros_and_blanks.yaml")
    entra = dataclasses.replace(Config().entra, client_id="a", client_secrets=(Secret("b"),), tenant_id="c")
    assert config == Config(entra=entra)


def test_health_addr_is_ignored_with_a_warning() -> None:
    warnings = read(f"{APP}health_addr: 127.0.0.1:8080\n").warnings
    assert warnings == ("config.yaml:2: health_addr: is ignored, as since azureSMTPwithOAuth 1.1.1; remove it",)


@pytest.mark.parametrize("user", ["", "fallback_smtp_user: a@example.com\n", "fallback_smtp_pass: x\n"])
def test_allow_anonymous_without_fallback_stays_off(user: str) -> None:
    config = read(f"{APP}allow_anonymous: true\n{user}")
    assert not config.access.allow_anonymous
    assert config.warnings == (
        "config.yaml:2: allow_anonymous: stays off: it needs fallback_smtp_user and fallback_smtp_pass",
    )


def test_allow_anonymous_on_every_address_is_fine() -> None:
    text = f"{APP}allow_anonymous: true\nfallback_smtp_user: a\nfallback_smtp_pass: b\nlisten_addr: :25\n"
    assert read(text).access.allow_anonymous
    assert read(text).warnings == ()


# --- values


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("7", 7),
        ("1_000", 1000),
        ("0x10", 16),
        ("0o10", 8),
        ("010", 8),
        ("+5", 5),
        ("50.0", 50),
        ("2.5e1", 25),
        ("089", 89),
    ],
)
def test_integers(written: str, number: int) -> None:
    assert read(f"{APP}max_connections: {written}\n").limits.max_connections == number


@pytest.mark.parametrize("written", ["true", "True", "yes", "YES", "on", "y", "Y", "oN"])
def test_true(written: str) -> None:
    assert read(f"{APP}save_to_sent: {written}\n").graph.save_to_sent


@pytest.mark.parametrize("written", ["false", "no", "OFF", "n", "N", "null", "~", ""])
def test_false(written: str) -> None:
    assert not read(f"{APP}save_to_sent: {written}\n").graph.save_to_sent


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        ("127.0.0.1:25", "127.0.0.1", 25),
        ("localhost:0", "localhost", 0),
        (":65535", "", 65535),
        ('"[::1]:2526"', "::1", 2526),
        ('"[::]:25"', "::", 25),
        ('"[fe80::1%eth0]:25"', "fe80::1%eth0", 25),
        ("mail-1.example.com:587", "mail-1.example.com", 587),
    ],
)
def test_listen_address(written: str, host: str, port: int) -> None:
    assert read(f"{APP}listen_addr: {written}\n").listen.addresses == (ListenAddress(host, port),)
    assert read(f"{APP}listen_addr:\n  - {written}\n").listen.addresses == (ListenAddress(host, port),)


def test_two_free_ports_are_not_one_address_twice() -> None:
    assert len(read(f"{APP}listen_addr: ['127.0.0.1:0', '[::1]:0']\n").listen.addresses) == 2
    assert len(read(f"{APP}listen_addr: ['127.0.0.1:0', '127.0.0.1:0']\n").listen.addresses) == 2


@pytest.mark.parametrize("level", ["warning", "WARN", "Warning"])
def test_log_level_in_any_case(level: str) -> None:
    assert read(f"{APP}log_level: {level}\n").log.level == "warn"


def test_log_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read(f"{APP}log: relay.log\n").log.path == "/etc/relay/relay.log"
    assert read(f"{APP}log: logs/relay.log\n").log.path == str(tmp_path / "logs" / "relay.log")
    assert read(f"{APP}log: /var/log/relay.log\n").log.path == "/var/log/relay.log"


@pytest.mark.parametrize(
    "path", [r"C:\logs\relay.log", "C:/logs/relay.log", r"'\\server\share\relay.log'", r"logs\relay.log"]
)
def test_a_windows_path_of_the_log_is_warned_of(path: str) -> None:
    """It is taken as it is: for us it is the name of a file, or of a directory that is mostly not there."""
    (warning,) = read(f"{APP}log: {path}\n").warnings
    assert warning.startswith("config.yaml:2: log: is a path of Windows")


def test_networks() -> None:
    config = read(f"{APP}allowed_networks: [10.0.5.0/24, 192.168.1.7, '2001:db8::/32']\nanonymous_networks: []\n")
    assert config.access.allowed_networks == tuple(map(ip_network, ("10.0.5.0/24", "192.168.1.7/32", "2001:db8::/32")))
    assert config.access.anonymous_networks == ()
    mapped = read(f"{APP}allowed_networks: ['::ffff:10.0.5.0/120', '::ffff:192.168.1.7', '::/0']\n")
    assert mapped.access.allowed_networks == tuple(map(ip_network, ("10.0.5.0/24", "192.168.1.7/32", "::/0")))
    assert read(f"{APP}anonymous_networks:\n").access.anonymous_networks == PRIVATE_NETWORKS


@pytest.mark.parametrize("cloud", sorted(CLOUDS))
def test_cloud_sets_both_urls_and_the_scope(cloud: str) -> None:
    config = read(f"{APP}cloud: {cloud}\n")
    assert (config.entra.authority, config.graph.url) == CLOUDS[cloud]
    assert config.entra.scopes == (f"{CLOUDS[cloud][1]}/.default",)


def test_urls_that_are_given_go_before_the_cloud() -> None:
    text = (
        APP.replace("}", ", authority: 'https://Login.example.com:8443/'}")
        + "cloud: china\ngraph_url: http://[::1]:81/\n"
    )
    config = read(text)
    assert (config.entra.authority, config.graph.url) == ("https://login.example.com:8443", "http://[::1]:81")
    assert config.entra.scopes == ("https://microsoftgraph.chinacloudapi.cn/.default",), "a gateway is no audience"
    config = read(APP + "graph_url: https://graph.microsoft.us/\n")
    assert config.entra.scopes == ("https://graph.microsoft.us/.default",)
    config = read(APP + "graph_url: https://127.0.0.1:8443\n")
    assert config.entra.scopes == ("https://graph.microsoft.com/.default",)


def test_the_global_scope_of_the_seeds_files_means_the_clouds_own() -> None:
    """No other cloud has a token for it. A scope that is none of Graph's defaults stays as it is."""
    text = APP.replace("}", ", scopes: [https://graph.microsoft.com/.default]}")
    assert read(text).entra.scopes == ("https://graph.microsoft.com/.default",)
    assert read(f"{text}cloud: usgov\n").entra.scopes == ("https://graph.microsoft.us/.default",)
    other = APP.replace("}", ", scopes: [https://graph.microsoft.com/Mail.Send]}")
    assert read(f"{other}cloud: usgov\n").entra.scopes == ("https://graph.microsoft.com/Mail.Send",)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "127.9.9.9", "[::1]:80"])
def test_graph_without_tls_on_loopback(host: str) -> None:
    assert read(f"{APP}graph_url: http://{host}\n").graph.url == f"http://{host}"


@pytest.mark.parametrize(
    ("scopes", "asked"),
    [
        ("[Mail.Send, offline_access, OpenID]", ("Mail.Send",)),
        ("['Mail.Send offline_access']", ("Mail.Send",)),
        ("[openid, profile]", ("https://graph.microsoft.com/.default",)),
    ],
)
def test_reserved_scopes_are_left_to_msal(scopes: str, asked: tuple[str, ...]) -> None:
    assert read(APP.replace("}", f", scopes: {scopes}}}")).entra.scopes == asked


def test_proxy_is_a_secret() -> None:
    config = read(f"{APP}https_proxy: http://user:p%40ss@proxy.example.com:3128\n")
    assert config.graph.https_proxy.reveal() == "http://user:p%40ss@proxy.example.com:3128"
    assert "p%40ss" not in repr(config)


def test_ca_bundle_is_found_beside_the_file(tmp_path: Path) -> None:
    certifi = pytest.importorskip("certifi")
    (tmp_path / "ca.pem").write_bytes(Path(certifi.where()).read_bytes())
    assert read(f"{APP}ca_bundle: ca.pem\n", directory=tmp_path).graph.ca_bundle == str(tmp_path / "ca.pem")


def test_damaged_ca_bundle(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(ConfigError, match="no certificate in PEM form"):
        read(f"{APP}ca_bundle: ca.pem\n", directory=tmp_path)


@pytest.mark.parametrize(
    ("written", "secrets"),
    [
        ("0012", ["0012"]),
        ("yes", ["yes"]),
        ("[0012]", ["0012"]),
        ("[0012, yes]", ["0012", "yes"]),
        ("[{env: NEW}, {file: old}]", ["S3CRET-new", "S3CRET-old"]),
    ],
)
def test_one_client_secret_or_two(tmp_path: Path, written: str, secrets: list[str]) -> None:
    (tmp_path / "old").write_text("S3CRET-old\n")
    config = read(APP.replace("S3CRET", written), directory=tmp_path, NEW="S3CRET-new")
    assert [secret.reveal() for secret in config.entra.client_secrets] == secrets
    assert "S3CRET" not in repr(config)


@pytest.mark.parametrize(
    ("written", "place", "word"),
    [
        ("[S3CRET-1, S3CRET-2, S3CRET-3]", "", "two secrets at the most"),
        ("[S3CRET-1, S3CRET-1]", "[1]", "stands twice"),
        ("[S3CRET-1, '']", "[1]", "must not be empty"),
        ("[S3CRET-1, [S3CRET-2]]", "[1]", "must be a string"),
        ("[]", "", "required value is missing"),
    ],
)
def test_client_secrets_that_are_none(written: str, place: str, word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(APP.replace("S3CRET", written))
    (fault,) = caught.value.faults
    assert fault.startswith(f"config.yaml:1: oauth2_config.client_secret{place}: ")
    assert word in fault
    assert "S3CRET" not in fault


def test_a_secret_with_white_space_is_warned_of() -> None:
    warnings = read(APP + "fallback_smtp_pass: ' S3CRET'\nfallback_smtp_user: a@example.com\n").warnings
    assert warnings == ("config.yaml:2: fallback_smtp_pass: starts or ends with white space",)


def test_repr_shows_no_secret() -> None:
    assert "S3CRET" not in repr(read(APP + "fallback_smtp_pass: S3CRET2\n"))


# --- values from elsewhere


def test_environment() -> None:
    config = read(
        "oauth2_config:\n  client_id: {env: ID}\n  client_secret: {env: SECRET}\n  tenant_id: c\n"
        "listen_addr: [{env: ADDR}]\nlog_level: {env: LEVEL}\nhostname: {env: NOTHING}\n",
        ID="0012", SECRET="*x: y#", ADDR=":25", LEVEL="DEBUG", NOTHING="",
    )  # fmt: skip
    assert (config.entra.client_id, config.entra.client_secrets) == ("0012", (Secret("*x: y#"),))
    assert (config.listen.addresses, config.log.level, config.listen.hostname) == (
        (ListenAddress("", 25),),
        "debug",
        "",
    )


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_file_loses_one_line_end(tmp_path: Path, end: bytes) -> None:
    (tmp_path / "secret").write_bytes("\ufeffpä: ss".encode() + end)
    config = read(f"{APP}fallback_smtp_pass: {{file: secret}}\n", directory=tmp_path)
    assert config.access.fallback_password == Secret("pä: ss")


@pytest.mark.parametrize("octets", [b"\xff", b"S3CRET\n\n", b"S3CRET\0", b"x" * (1 << 21)])
def test_file_that_does_not_fit(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "secret").write_bytes(octets)
    with pytest.raises(ConfigError) as caught:
        read(f"{APP}fallback_smtp_pass: {{file: secret}}\n", directory=tmp_path)
    assert "S3CRET" not in str(caught.value)


def test_environment_that_is_not_utf8() -> None:
    assert faults(f"{APP}fallback_smtp_pass: {{env: X}}\n", X="S3CRET\udcff") == [
        "config.yaml:2: fallback_smtp_pass: holds a line end or another control character"
    ]


def test_a_tab_may_be_a_part_of_a_secret_alone() -> None:
    config = read(f'{APP}fallback_smtp_pass: "S3\tCRET"\n')
    assert config.access.fallback_password == Secret("S3\tCRET")
    assert faults(f'{APP}fallback_smtp_user: "C:\\temp"\n') == [
        "config.yaml:2: fallback_smtp_user: holds a line end or another control character"
    ]


@pytest.mark.parametrize("end", ["---\n", "...\n", "--- # the end\n", "...\n---\n"])
def test_nothing_may_stand_behind_the_document(end: str) -> None:
    """As in azureSMTPwithOAuth, whose library reads the first document alone."""
    assert read(f"---\n{APP}{end}").entra.client_id == "a"


# --- aliases


def test_aliases_and_merge_keys() -> None:
    config = read(
        "oauth2_config:\n  <<: [{client_id: a, tenant_id: c}, {client_id: b}]\n  client_secret: &s S3CRET\n"
        "fallback_smtp_pass: *s\n"
    )
    assert (config.entra.client_id, config.access.fallback_password) == ("a", Secret("S3CRET"))


# --- tables


def test_tables() -> None:
    encoded = hash_password("S3CRET")
    config = read(
        f"{APP}users:\n"
        f"  - {{username: s, password_hash: '{encoded}', mailbox: s@example.com, allowed_from: ['*@a.b']}}\n"
        "clients:\n  - {network: 10.0.5.0/24}\n  - {network: [10.0.6.1, 10.0.7.1]}\n"
        "auth_limit: {failures: 3}\nadmin_addr: 127.0.0.1:2527\nsecret_expires: 2027-01-31\n"
    )
    assert config.accounts.users == (
        UserConfig(username="s", password_hash=Secret(encoded), mailbox="s@example.com", allowed_from=("*@a.b",)),
    )
    assert [len(client.network) for client in config.accounts.clients] == [1, 2]
    assert config.access.auth_limit == AuthLimit(failures=3)
    assert (config.admin.addr, config.entra.secret_expires) == (ListenAddress("127.0.0.1", 2527), "2027-01-31")


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [("*", "*@*"), ("*@*", "*@*"), ("*@localhost", "*@localhost"), ("scan*@*.example.com", "scan*@*.example.com")],
)
def test_patterns_of_addresses(pattern: str, taken: str) -> None:
    config = read(f"{APP}clients: [{{network: 10.0.5.0/24, allowed_from: ['{pattern}']}}]\n")
    assert config.accounts.clients[0].allowed_from == (taken,)


def test_faults_in_tables() -> None:
    text = (
        f"{APP}users:\n  - {{username: s, password_hash: S3CRET, mailbox: s}}\n  - {{nonsense: 1}}\n  - S3CRET\n"
        "clients: {network: 10.0.5.0/24}\nauth_limit: 5\nadmin_addr: [':25']\nsecret_expires: 31.1.2027\n"
    )
    assert faults(text) == [
        "config.yaml:3: users[0].password_hash: must be made by graph-smtp-relay hash-password",
        "config.yaml:3: users[0].mailbox: must be an address such as scanner@example.com",
        "config.yaml:4: users[1].nonsense: unknown key",
        "config.yaml:4: users[1].username: required value is missing",
        "config.yaml:4: users[1].password_hash: required value is missing",
        "config.yaml:4: users[1].mailbox: required value is missing",
        "config.yaml:5: users[2]: must be a mapping of keys and values",
        "config.yaml:6: clients: must be a list of mappings",
        "config.yaml:7: auth_limit: must be a mapping of keys and values",
        "config.yaml:8: admin_addr: must be a string; put a value that starts with [ or ! in quotes",
        "config.yaml:9: secret_expires: must be a date such as 2027-01-31",
    ]


def test_what_several_keys_say_together_is_among_the_faults() -> None:
    text = (
        f"{APP}dance: 1\ntls: {{cert_file: /etc/hostname}}\n"
        "clients: [{network: 10.0.5.0/24, mailbox: scanner@example.com}]\n"
    )
    assert faults(text) == [
        "config.yaml:2: dance: unknown key",
        "config.yaml:3: tls.cert_file: needs tls.key_file too",
        "config.yaml:4: clients[0].mailbox: flow password sends as fallback_smtp_user; remove it",
    ]


@pytest.mark.parametrize("text", ["[:25, :26]", "[ :25 , :26 ]", "[\n  :25,\n  :26,\n]", '[":25", :26]'])
def test_every_address_in_brackets(text: str) -> None:
    """What YAML 1.1 wants in quotes, and the administrator does not."""
    assert read(f"{APP}listen_addr: {text}\n").listen.addresses == (ListenAddress("", 25), ListenAddress("", 26))


def test_every_address_in_braces() -> None:
    """A colon behind a key in quotes is still the end of the key."""
    assert faults(f'{APP}tls: {{implicit_addr: :465, "min_version":TLSv9, "require_for_auth" :no}}\n') == [
        "config.yaml:2: tls.min_version: must be one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3",
        "config.yaml:2: tls.implicit_addr: needs tls.cert_file and tls.key_file",
    ]


def test_an_address_is_for_one_listener() -> None:
    """Port 0 is another one each time."""
    assert faults(f"{APP}listen_addr: [127.0.0.1:25, :26]\nadmin_addr: :26\n") == [
        "config.yaml:3: admin_addr: is an address of listen_addr already"
    ]
    assert faults(f"{APP}admin_addr: 127.0.0.1:2526\n") == [
        "config.yaml:2: admin_addr: is an address of listen_addr already"
    ]
    assert read(f"{APP}listen_addr: 127.0.0.1:0\nadmin_addr: 127.0.0.1:0\n").admin.addr is not None


def test_an_address_of_listen_addr_is_none_for_tls(tmp_path: Path) -> None:
    for name, octets in zip(("cert.pem", "key.pem"), make_pair(["relay.example"], datetime.now(UTC)), strict=True):
        (tmp_path / name).write_bytes(octets)
    text = f"{APP}tls: {{cert_file: cert.pem, key_file: key.pem, implicit_addr: ['127.0.0.1:2526', ':465']}}\n"
    with pytest.raises(ConfigError) as caught:
        read(f"{text}admin_addr: :465\n", directory=tmp_path)
    assert caught.value.faults == (
        "config.yaml:2: tls.implicit_addr: is an address of listen_addr already",
        "config.yaml:3: admin_addr: is an address of tls.implicit_addr already",
    )


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
def test_a_key_with_a_pass_phrase_is_named_as_such(tmp_path: Path, form: str) -> None:
    key = pem_files.rsa_key()
    (tmp_path / "cert.pem").write_bytes(pem_files.certificate(key))
    (tmp_path / "key.pem").write_bytes(pem_files.private(key, "a phrase", form))
    (fault,) = faults_in(f"{APP}tls: {{cert_file: cert.pem, key_file: key.pem}}\n", tmp_path)
    assert fault.startswith("config.yaml:2: tls.key_file: is protected by a pass phrase; ")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_a_small_key_is_for_old_tls(tmp_path: Path) -> None:
    """Old devices may trust just this one; OpenSSL takes it where it speaks TLS 1.0, and so does the relay."""
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is the matter
    (tmp_path / "cert.pem").write_bytes(pem_files.certificate(key))
    (tmp_path / "key.pem").write_bytes(pem_files.private(key))
    (fault,) = faults_in(f"{APP}tls: {{cert_file: cert.pem, key_file: key.pem}}\n", tmp_path)
    assert "too weak for OpenSSL" in fault
    read(f"{APP}tls: {{cert_file: cert.pem, key_file: key.pem, min_version: TLSv1}}\n", directory=tmp_path)
    assert tls.server_context(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"), "TLSv1")


def test_half_of_the_fallback_credentials_does_nothing() -> None:
    (warning,) = read(f"{APP}fallback_smtp_user: a@example.com\n").warnings
    assert warning == (
        "config.yaml:2: fallback_smtp_user: has no effect: fallback_smtp_user and fallback_smtp_pass go together"
    )


def test_a_fault_makes_no_second_one() -> None:
    text = f"{APP}tls: {{cert_file: /no/such/file, key_file: /etc/hostname, implicit_addr: ':465'}}\n"
    assert len(faults(text)) == 1
    misspelt = APP.replace("{client_id", "{flow: client_credential, client_id")
    assert len(faults(f"{misspelt}clients: [{{network: 10.0.0.0/8, mailbox: s@a.b}}]\n")) == 1


CLIENTS = "allow_anonymous: true\nclients: [{network: 10.0.0.0/8, allowed_recipients: ['%s']}]\n"
APP_FLOW = APP.replace("{client_id", "{flow: client_credentials, client_id")


@pytest.mark.parametrize(
    "pattern", ["a@example.com", "*@example.com", "scan*@*.example.com", "O'Neil+x@sub.example.com", "*@bücher.example"]
)
def test_patterns(pattern: str) -> None:
    config = read(APP_FLOW + CLIENTS % pattern.replace("'", "''"))
    assert config.accounts.clients[0].allowed_recipients == (pattern,)


@pytest.mark.parametrize("pattern", ["example.com", "@example.com", "*.example.com", "a*@example.com ", "*@", "a"])
def test_a_pattern_that_would_never_match_is_a_fault(pattern: str) -> None:
    (fault,) = faults(APP_FLOW + CLIENTS % pattern)
    assert fault.startswith("config.yaml:3: clients[0].allowed_recipients[0]: must be an address, or *@")


@pytest.mark.parametrize(
    "scopes", ["[https://graph.microsoft.com/Mail.Send]", "[https://a/.default, https://b/.default]"]
)
def test_the_apps_flows_take_one_scope(scopes: str) -> None:
    text = APP_FLOW.replace("}", f", scopes: {scopes}}}")
    (fault,) = faults(text)
    assert (
        fault == "config.yaml:1: oauth2_config.scopes: flow client_credentials takes one scope, which ends in /.default"
    )


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("max_inflight_bytes: 1000000\n", "max_inflight_bytes"),
        ("max_message_size: 1000000000\n", "max_message_size"),
        ("max_message_size: 1000000\nmax_inflight_bytes: 1000000\n", ""),
    ],
)
def test_a_message_for_which_there_is_never_room_is_warned_of(text: str, key: str) -> None:
    assert [warning.split(": ")[1] for warning in read(APP + text).warnings] == ([key] if key else [])


@pytest.mark.parametrize(
    ("fallback", "warned"), [("", True), ("fallback_smtp_user: a\nfallback_smtp_pass: b\n", False)]
)
def test_clients_hold_for_an_empty_login_too(fallback: str, warned: bool) -> None:
    """Which falls back without allow_anonymous."""
    warnings = read(f"{APP}{fallback}clients: [{{network: 10.0.0.0/8}}]\n").warnings
    assert [": clients: has no effect" in warning for warning in warnings] == [True] * warned


def test_keys_of_another_flow_are_warned_about() -> None:
    users = f"users: [{{username: s, password_hash: '{hash_password('x')}', mailbox: s@example.com}}]\n"
    assert read(APP_FLOW + users + "fallback_smtp_user: a\n").warnings == (
        "config.yaml:3: fallback_smtp_user: has no effect with flow client_credentials",
    )
    login = "oauth2_config: {flow: client_login}\nallow_anonymous: true\ndefault_mailbox: a@example.com\n"
    assert [warning.split(": ")[1] for warning in read(login).warnings] == ["allow_anonymous", "default_mailbox"]
    assert len(read(APP + users + "default_mailbox: a@example.com\n").warnings) == 2


def test_nobody_can_send() -> None:
    assert "nobody can send" in read(APP_FLOW).warnings[0]


@pytest.mark.parametrize(
    ("mode", "secret", "warned"),
    [
        (0o644, "S3CRET", True),
        (0o604, "S3CRET", True),
        (0o640, "S3CRET", False),
        (0o600, "S3CRET", False),
        (0o644, "[{env: SECRET}, S3CRET-2]", True),
        (0o644, "[{env: SECRET}, {file: secret}]", False),
        (0o644, "{env: SECRET}", False),
        (0o644, "{file: secret}", False),
    ],
)
def test_a_secret_that_everybody_can_read(tmp_path: Path, mode: int, secret: str, warned: bool) -> None:
    path = tmp_path / "config.yaml"
    (tmp_path / "secret").write_text("S3CRET\n")
    path.write_text(APP.replace("S3CRET", secret))
    path.chmod(mode)
    warnings = load(path, environ={"SECRET": "S3CRET-1"}).warnings
    assert len(warnings) == warned
    for warning in warnings:
        assert warning.startswith(f"{path}:1: oauth2_config.client_secret: is in clear in a file that every user can")


def test_what_is_encrypted_or_a_hash_may_be_read(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "key")
    vault.make_key()
    path = tmp_path / "config.yaml"
    users = f"users: [{{username: s, password_hash: '{hash_password('x')}', mailbox: s@example.com}}]\n"
    path.write_text(APP_FLOW.replace("S3CRET", vault.encrypt("S3CRET")) + users)
    path.chmod(0o644)
    assert load(path, environ={}, key_file=str(vault.path)).warnings == ()


@pytest.mark.parametrize("what", ["no_certificate", "no_key", "another_key", "ec", "pass_phrase", "nothing"])
def test_a_client_certificate_that_cannot_be_used(tmp_path: Path, what: str) -> None:
    (tmp_path / "app.pem").write_bytes(pem_files.broken(what))
    text = "oauth2_config: {client_id: a, tenant_id: c, client_secret: wrong-phrase, client_certificate: app.pem}\n"
    (fault,) = faults_in(text, tmp_path)
    assert fault.startswith("config.yaml:1: oauth2_config.client_certificate: cannot be used: ")
    assert "wrong-phrase" not in fault


def faults_in(text: str, directory: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        read(text, directory=directory)
    return caught.value.faults


def test_a_certificate_goes_instead_of_a_secret(tmp_path: Path) -> None:
    (tmp_path / "app.pem").write_bytes(b"".join(make_pair(["app"], datetime.now(UTC))))
    text = "oauth2_config: {client_id: a, tenant_id: c, client_certificate: app.pem}\n"
    assert read(text, directory=tmp_path).entra.client_certificate == str(tmp_path / "app.pem")


def test_no_repr_shows_a_secret() -> None:
    """Of the whole tree and of each branch, and in a traceback's usual form."""
    encoded = hash_password("S3CRET")
    text = (
        f"{APP}fallback_smtp_user: u\nfallback_smtp_pass: S3CRET\nhttps_proxy: http://u:S3CRET@proxy:3128\n"
        f"admin_password_hash: '{encoded}'\n"
        f"users:\n  - {{username: s, password_hash: '{encoded}', mailbox: s@example.com}}\n"
    )
    config = read(text)
    assert config.access.fallback_password.reveal() == "S3CRET"
    branches = [getattr(config, field.name) for field in dataclasses.fields(config)]
    for shown in (repr(config), str(config), f"{config}", *map(repr, branches)):
        assert "S3CRET" not in shown
        assert encoded[-20:] not in shown


def test_secrets_are_not_pickled() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(read(APP))


def test_workers() -> None:
    assert [
        read(f"{APP}{line}").process.workers for line in ("", "workers: 1\n", "workers: 3\n", "workers: Auto\n")
    ] == [
        1,
        1,
        3,
        0,
    ]


@pytest.mark.parametrize(
    "line", ["log_level:\tdebug", "log_level: debug\t# all", "log_level:\t 'debug' \t", "log_level: debug\t"]
)
def test_tabs_that_part_are_taken(line: str) -> None:
    """As in azureSMTPwithOAuth: YAML forbids them in the indentation alone."""
    assert read(f"{line}\n{APP}").log.level == "debug"
    flow = APP.replace(", ", ",\t").replace("{", "{\t")
    assert read(f"{flow}{line}\n").log.level == "debug"
