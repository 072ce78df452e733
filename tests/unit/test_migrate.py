# SPDX-License-Identifier: MIT
"""migrate: what other relays' configurations become here, and what is said of the rest. Each result is a valid one."""

from __future__ import annotations

import contextlib
import re
import stat
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from relay.config import Config
from relay.configfile import ConfigError, parse
from relay.credentials import verify_password
from relay.migrate import CannotMigrate, migrated
from relay.selfsigned import write_pair
from tests.support.relay_process import run_once

GUID = "01234567-89ab-cdef-0123-456789abcdef"


def become(tmp_path: Path, program: str, text: str, mailbox: str = "", **environ: str) -> tuple[Config, str]:
    """The configuration as the relay would read it, and the notes."""
    theirs = tmp_path / "theirs"
    theirs.write_text(text, encoding="utf-8")
    made, notes = migrated(program, theirs, mailbox)
    return parse(made, name="ours", directory=tmp_path / "elsewhere", environ=environ), "\n".join(notes)


# azureSMTPwithOAuth

SEED = """\
log: relay.log
log_level: Warning
listen_addr: :2526
oauth2_config:
  client_id: 0012
  client_secret: "ab'c#d: {e"
  tenant_id: yes
  scopes:
    - https://graph.microsoft.com/.default
fallback_smtp_user: {user}
fallback_smtp_pass: {password}
allow_anonymous: true
save_to_sent: false
max_message_size: 0
max_connections: 50
strict_attachments: 0
retry_attempts: -1
health_addr: ":8080"
max_conections: 7
"""


def test_azuresmtpwithoauth(tmp_path: Path) -> None:
    text = SEED.replace("{user}", "a@example.com").replace("{password}", "0123")
    config, notes = become(tmp_path, "azuresmtpwithoauth", "\ufeff" + text.replace("\n", "\r\n"))
    assert (config.entra.client_id, config.entra.tenant_id) == ("0012", "yes")
    assert config.entra.client_secrets[0].reveal() == "ab'c#d: {e"
    assert config.access.fallback_password.reveal() == "0123"
    assert (config.log.path, config.log.level) == (str(tmp_path / "relay.log"), "warn")
    assert (config.limits.max_connections, config.graph.retry_attempts) == (50, 3)
    assert config.access.allow_anonymous
    assert [line.partition(":")[0] for line in notes.splitlines()] == ["health_addr", "max_conections"]


def test_azuresmtpwithoauth_encrypted_on_windows(tmp_path: Path) -> None:
    text = SEED.replace("{user}", "a@example.com").replace("{password}", "__SYSTEMENCRYPTED__abc")
    with pytest.raises(ConfigError, match="RELAY_FALLBACK_SMTP_PASS is not set"):
        become(tmp_path, "azuresmtpwithoauth", text)
    config, notes = become(tmp_path, "azuresmtpwithoauth", text, RELAY_FALLBACK_SMTP_PASS="again")
    assert config.access.fallback_password.reveal() == "again"
    assert "fallback_smtp_pass: can only be read on the Windows machine" in notes


# SMTP2Graph

SMTP2GRAPH = f"""\
mode: full
send:
  appReg: {{tenant: contoso, id: {GUID}, secret: "V: #x"}}
  retryLimit: 10
  forceMailbox: relay@example.com
receive:
  port: 587
  listenAddress: 127.0.0.1
  maxSize: 40m
  banner: Hello
  ipWhitelist: [127.0.0.1, 192.168.30.7/24, "fe80::/10", 127.0.0.1]
  allowedFrom: [noreply@example.com]
  allowedRcpt: [team@example.com]
  requireAuth: true
  users:
    - {{username: scanner, password: P@ssword!}}
    - {{username: nas, password: "0123", allowedFrom: [nas@example.com]}}
  authLimit: {{duration: 30, limit: 5}}
httpProxy: {{host: proxy.example.com, port: 3128, username: me, password: "p@ss/"}}
"""


def test_smtp2graph(tmp_path: Path) -> None:
    config, notes = become(tmp_path, "smtp2graph", SMTP2GRAPH)
    assert (config.entra.flow, config.entra.tenant_id) == ("client_credentials", "contoso.onmicrosoft.com")
    assert (config.entra.client_id, config.entra.client_secrets[0].reveal()) == (GUID, "V: #x")
    assert [str(address) for address in config.listen.addresses] == ["127.0.0.1:587"]
    assert config.limits.max_message_bytes == 40 * 1024 * 1024
    assert [str(block) for block in config.access.allowed_networks] == ["127.0.0.1/32", "192.168.30.0/24", "fe80::/10"]
    assert (config.access.auth_limit.failures, config.access.auth_limit.window_s) == (5, 30)
    assert not config.access.allow_anonymous
    scanner, nas = config.accounts.users
    assert verify_password("P@ssword!", scanner.password_hash.reveal())
    assert verify_password("0123", nas.password_hash.reveal())
    assert (scanner.mailbox, nas.mailbox) == ("relay@example.com", "relay@example.com")
    assert (scanner.allowed_from, nas.allowed_from) == (("noreply@example.com",), ("nas@example.com",))
    assert config.graph.https_proxy.reveal() == "http://me:p%40ss%2F@proxy.example.com:3128"
    assert config.graph.save_to_sent
    for key in ("send.retryLimit", "receive.banner", "receive.allowedRcpt", "save_to_sent"):
        assert f"{key}: " in notes
    assert "P@ssword" not in notes


def test_smtp2graph_without_logins(tmp_path: Path) -> None:
    text = f"""\
mode: full
send: {{appReg: {{tenant: {GUID}, id: {GUID}, secret: x}}}}
receive: {{allowedFrom: [a@example.com], allowedRcpt: [b@example.com], listenAddress: "::1", colour: red}}
"""
    config, notes = become(tmp_path, "smtp2graph", text)
    assert config.entra.tenant_id == GUID
    assert [str(address) for address in config.listen.addresses] == ["[::1]:25"]
    assert config.access.allow_anonymous
    (policy,) = config.accounts.clients
    assert (policy.allowed_from, policy.allowed_recipients) == (("a@example.com",), ("b@example.com",))
    assert "loopback and private addresses only" in notes, "open to the world there, and not here"
    assert "receive.colour: unknown" in notes


def test_smtp2graph_with_tls_and_a_certificate(tmp_path: Path) -> None:
    cert, key = write_pair(tmp_path, ["localhost"], datetime.now(UTC))
    (tmp_path / "client.pem").write_bytes(key.read_bytes() + cert.read_bytes())
    text = f"""\
mode: full
send:
  appReg: {{tenant: contoso.com, id: {GUID}, certificate: {{thumbprint: AB, privateKeyPath: client.pem}}}}
receive:
  port: 465
  secure: true
  tlsKeyPath: {key.name}
  tlsCertPath: {cert.name}
  allowInsecureAuth: true
  requireAuth: true
  users: [{{username: nas, password: x}}]
"""
    config, notes = become(tmp_path, "smtp2graph", text, mailbox="nas@example.com")
    assert config.entra.tenant_id == "contoso.com"
    assert config.entra.client_certificate == str(tmp_path / "client.pem")
    assert [str(address) for address in config.tls.implicit_addresses] == [":465"]
    assert (config.tls.cert_file, config.tls.key_file) == (str(cert), str(key))
    assert not config.tls.require_for_auth
    assert config.accounts.users[0].mailbox == "nas@example.com"
    assert "append the certificate" in notes
    with pytest.raises(ConfigError, match=r"users\[0\].mailbox: required"):
        become(tmp_path, "smtp2graph", text)


# smtp-oauth-relay


def test_smtp_oauth_relay(tmp_path: Path) -> None:
    (tmp_path / "certs").mkdir()
    cert, key = write_pair(tmp_path / "certs", ["localhost"], datetime.now(UTC))
    text = f"""\
# relay
LOG_LEVEL=critical
export SERVER_GREETING="Example Corp"
TLS_CERT_FILEPATH='certs/{cert.name}'
TLS_KEY_FILEPATH=certs/{key.name}
REQUIRE_TLS=false
USERNAME_DELIMITER=:
AZURE_TABLES_URL=https://x.table.core.windows.net/users
AZURE_TABLES_FORCE_USAGE=true
PATH=/usr/bin
"""
    config, notes = become(tmp_path, "smtp-oauth-relay", text)
    assert (config.entra.flow, config.log.level, config.tls.require_for_auth) == ("client_login", "error", False)
    assert [str(address) for address in config.listen.addresses] == [":8025"]
    assert (config.tls.cert_file, config.tls.key_file) == (str(cert), str(key))
    for name in ("SERVER_GREETING", "AZURE_TABLES_URL", "AZURE_TABLES_FORCE_USAGE", "LOG_LEVEL"):
        assert f"{name}: " in notes
    assert "PATH" not in notes, "an environment has more in it than theirs"


@pytest.mark.parametrize(("source", "said"), [("off", ""), ("keyvault", "TLS_SOURCE: no counterpart to a key vault")])
def test_smtp_oauth_relay_without_files(tmp_path: Path, source: str, said: str) -> None:
    config, notes = become(tmp_path, "smtp-oauth-relay", f"TLS_SOURCE={source}\nLOG_LEVEL=INFO\n")
    assert config.tls.cert_file == ""
    assert said in notes


@pytest.mark.parametrize(
    "text",
    [
        "services:\n  relay:\n    image: x\n    environment:\n      TLS_SOURCE: 'off' # dev\n      LOG_LEVEL: INFO\n",
        'services:\n  relay:\n    environment:\n      - "TLS_SOURCE=off"\n      - LOG_LEVEL=info\n',
        "export TLS_SOURCE='off'\nLOG_LEVEL = info\n",
    ],
    ids=["compose, a mapping", "compose, a list", "a shell's file"],
)
def test_smtp_oauth_relay_wherever_the_variables_stand(tmp_path: Path, text: str) -> None:
    config, notes = become(tmp_path, "smtp-oauth-relay", text)
    assert (config.tls.cert_file, config.log.level) == ("", "info")
    assert len(notes.splitlines()) == 1


# The command


@pytest.mark.parametrize(
    ("program", "text", "said"),
    [
        ("smtp2graph", "- a\n", "no mapping"),
        ("azuresmtpwithoauth", "a: 'S3CRET\n", "never closed"),
        ("smtp-oauth-relay", "S3CRET\n", "none of its variables"),
    ],
)
def test_what_is_no_configuration(tmp_path: Path, program: str, text: str, said: str) -> None:
    (tmp_path / "theirs").write_text(text)
    with pytest.raises(CannotMigrate, match=said) as caught:
        migrated(program, tmp_path / "theirs")
    assert "S3CRET" not in str(caught.value)
    with pytest.raises(CannotMigrate, match="cannot be read"):
        migrated(program, tmp_path / "nothing")


def migrate(tmp_path: Path, *arguments: str | Path, **environ: str) -> Any:
    (tmp_path / "theirs.yml").write_text(SMTP2GRAPH)
    return run_once("migrate", tmp_path / "theirs.yml", "--from", "smtp2graph", *arguments, env=environ)


def test_the_command_writes_a_new_file(tmp_path: Path) -> None:
    ours = tmp_path / "ours.yaml"
    ended = migrate(tmp_path, "--output", ours)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "note: send.retryLimit: " in ended.stderr
    assert stat.S_IMODE(ours.stat().st_mode) == 0o600
    assert run_once("check", "--config", ours).returncode == 0
    before = ours.read_bytes()
    ended = migrate(tmp_path, "--output", ours)
    assert (ended.returncode, "is there already" in ended.stderr) == (2, True)
    assert ours.read_bytes() == before


def test_the_command_writes_to_standard_output(tmp_path: Path) -> None:
    ended = migrate(tmp_path)
    assert ended.returncode == 0
    parse(ended.stdout, name="ours", directory=tmp_path, environ={})


def test_the_command_says_what_is_left_to_do(tmp_path: Path) -> None:
    (tmp_path / "theirs.yml").write_text(SMTP2GRAPH.replace("id: ", "number: "))
    ended = run_once("migrate", "--from", "smtp2graph", tmp_path / "theirs.yml")
    assert (ended.returncode, "client_id: required value is missing" in ended.stderr) == (1, True)
    assert "flow: client_credentials" in ended.stdout


# Whatever the file holds, it is read or refused in words


THEIR_KEYS = re.findall(r"\w+", SMTP2GRAPH + SEED + "send receive certificate privateKeyPath secure rateLimit")
trees = st.recursive(
    st.text(max_size=8) | st.sampled_from(["true", "0", "25m", "{env: X}", "::1", "465"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(THEIR_KEYS), inner, max_size=6),
    max_leaves=20,
)


@given(trees, st.sampled_from(["smtp2graph", "azuresmtpwithoauth", "smtp-oauth-relay"]))
def test_nothing_in_a_file_is_a_traceback(tree: Any, program: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        theirs = Path(directory) / "theirs"
        theirs.write_text(yaml.safe_dump(tree), encoding="utf-8")
        try:
            made, _ = migrated(program, theirs)
        except CannotMigrate:
            return
        with contextlib.suppress(ConfigError):
            parse(made, name="ours", directory=Path(directory), environ={})
