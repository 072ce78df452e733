# SPDX-License-Identifier: MIT
"""Secrets at rest: encrypted and decrypted in place, and nothing else of the file touched."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from relay import vault as vault_module
from relay.configcrypt import decrypt_file, encrypt_file
from relay.configfile import ConfigError, load
from relay.configyaml import YamlFault
from relay.vault import Vault, VaultFault, key_file

TEXT = """\
# top
oauth2_config:        # the app
  client_id: a
  client_secret: "s3 # 'x'"   # mine
  tenant_id: c
fallback_smtp_user: u
fallback_smtp_pass: |
  block secret
log_level: info
"""


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    vault = Vault(tmp_path / "key")
    assert vault.make_key()
    return vault


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode())
    path.chmod(0o640)
    return path


PLAIN = TEXT.replace("|\n  block secret", "plain")


@pytest.mark.parametrize("text", [PLAIN, PLAIN.replace("\n", "\r\n"), "\ufeff" + PLAIN], ids=["lf", "crlf", "bom"])
def test_only_the_secrets_change(tmp_path: Path, vault: Vault, text: str) -> None:
    path = written(tmp_path, text)
    before = path.read_bytes().splitlines()
    assert encrypt_file(path, vault) == 2
    after = path.read_bytes().splitlines()
    changed = [number for number, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert changed == [3, 6]
    assert after[3].startswith(b"  client_secret: enc:")
    assert after[3].endswith(b"   # mine")
    assert b"s3 #" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["config.yaml", "key"], "nothing is left beside it"


def test_what_was_encrypted_is_read(tmp_path: Path, vault: Vault) -> None:
    path = written(tmp_path, PLAIN)
    encrypt_file(path, vault)
    config = load(path, environ={}, key_file=str(vault.path))
    assert config.entra.client_secrets[0].reveal() == "s3 # 'x'"
    assert config.access.fallback_password.reveal() == "plain"


def test_there_and_back(tmp_path: Path, vault: Vault) -> None:
    path = written(tmp_path, TEXT)
    assert encrypt_file(path, vault) == 2
    assert decrypt_file(path, vault) == 2
    assert "client_secret: 's3 # ''x'''   # mine" in path.read_text()
    assert decrypt_file(path, vault) == 0


def test_an_alias_stays_one(tmp_path: Path, vault: Vault) -> None:
    """The scalar stands once in the file, and its anchor has to stay."""
    text = TEXT.replace("\"s3 # 'x'\"", "&mine s3").replace("|\n  block secret", "*mine")
    path = written(tmp_path, text)
    assert encrypt_file(path, vault) == 1
    assert "fallback_smtp_pass: *mine\n" in path.read_text()
    config = load(path, environ={}, key_file=str(vault.path))
    assert (config.entra.client_secrets[0].reveal(), config.access.fallback_password.reveal()) == ("s3", "s3")
    assert decrypt_file(path, vault) == 1
    assert path.read_text() == text.replace("&mine s3", "&mine 's3'")


def test_a_new_first_key_takes_over(tmp_path: Path, vault: Vault) -> None:
    path = written(tmp_path, TEXT)
    encrypt_file(path, vault)
    new = Vault(tmp_path / "new")
    new.make_key()
    both = Vault(tmp_path / "both")
    both.path.write_bytes(new.path.read_bytes() + vault.path.read_bytes())
    assert encrypt_file(path, both) == 2
    assert decrypt_file(path, new) == 2


def test_a_key_file_is_made_once_and_for_the_owner_alone(tmp_path: Path, vault: Vault) -> None:
    assert stat.S_IMODE(vault.path.stat().st_mode) == 0o600
    assert not vault.make_key()
    with pytest.raises(VaultFault, match="cannot be made"):
        Vault(tmp_path / "missing" / "missing" / "key").make_key()


def test_the_wrong_key_is_a_fault_without_values(tmp_path: Path, vault: Vault) -> None:
    path = written(tmp_path, TEXT)
    encrypt_file(path, vault)
    other = Vault(tmp_path / "other")
    other.make_key()
    for name in (str(other.path), str(tmp_path / "nowhere"), str(path)):
        with pytest.raises(ConfigError) as caught:
            load(path, environ={}, key_file=name)
        assert len(caught.value.faults) == 2
        assert "enc:" not in str(caught.value)
        assert name in str(caught.value)


def test_what_cannot_be_read_is_left_alone(tmp_path: Path, vault: Vault) -> None:
    path = written(tmp_path, "client_secret: [\n")
    with pytest.raises(YamlFault):
        encrypt_file(path, vault)
    path.write_bytes(b"\xff\xff")
    with pytest.raises(YamlFault):
        encrypt_file(path, vault)
    windows = written(tmp_path, "fallback_smtp_pass: __SYSTEMENCRYPTED__abc\n")
    with pytest.raises(VaultFault, match="Windows"):
        encrypt_file(windows, vault)
    assert windows.read_text() == "fallback_smtp_pass: __SYSTEMENCRYPTED__abc\n"


def test_where_the_key_is_looked_for() -> None:
    environ = {"GRAPH_SMTP_RELAY_KEY_FILE": "/a", "CREDENTIALS_DIRECTORY": "/run/c"}
    assert key_file("/o", environ) == Path("/o")
    assert key_file(None, environ) == Path("/a")
    assert key_file(None, {"CREDENTIALS_DIRECTORY": "/run/c"}) == Path("/run/c/key")
    assert key_file(None, {}) == Path("/etc/graph-smtp-relay/secret.key")


def test_other_credentials_of_the_service_are_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd sets CREDENTIALS_DIRECTORY for a TLS key too."""
    system = tmp_path / "secret.key"
    monkeypatch.setattr(vault_module, "_SYSTEM_KEY_FILE", system)
    system.touch()
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    assert key_file(None, environ) == system
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/key").touch()
    assert key_file(None, environ) == tmp_path / "credentials/key"


def test_a_key_file_in_a_directory_that_is_not_there_yet(tmp_path: Path) -> None:
    assert Vault(tmp_path / "graph-smtp-relay" / "secret.key").make_key()


def test_utf16_stays_utf16(tmp_path: Path, vault: Vault) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(PLAIN.encode("utf-16"))
    assert encrypt_file(path, vault) == 2
    assert "client_secret: enc:" in path.read_bytes().decode("utf-16")
    assert load(path, environ={}, key_file=str(vault.path)).access.fallback_password.reveal() == "plain"
    decrypt_file(path, vault)
    assert path.read_bytes().decode("utf-16").count("'plain'") == 1


@pytest.mark.parametrize(("proxy", "secrets"), [("http://proxy:3128", 0), ("http://u:p@proxy:3128", 1)])
def test_a_proxys_address_alone_is_no_secret(tmp_path: Path, vault: Vault, proxy: str, secrets: int) -> None:
    text = f"oauth2_config: {{client_id: a, client_secret: {{env: X}}, tenant_id: c}}\nhttps_proxy: {proxy}\n"
    path = written(tmp_path, text)
    path.chmod(0o644)
    assert len(load(path, environ={"X": "x"}).warnings) == secrets
    assert encrypt_file(path, vault) == secrets
    assert encrypt_file(path, vault) == secrets, "what is encrypted is encrypted anew"


@pytest.mark.parametrize(
    "two",
    [
        "[new, 'old one']",
        "[\n    new,   # since May\n    'old one']",
        "\n  - new   # since May\n  - 'old one'",
        "\n  - new\n  - |-\n    old one",
    ],
    ids=["flow", "flow over lines", "block", "block scalar"],
)
def test_two_secrets(tmp_path: Path, vault: Vault, two: str) -> None:
    text = f"oauth2_config:\n  client_id: a\n  tenant_id: c\n  client_secret: {two}   # two\nlog_level: info\n"
    text = text.replace("|-\n    old one   # two", "|-\n    old one")
    path = written(tmp_path, text)
    assert encrypt_file(path, vault) == 2
    encrypted = path.read_text()
    assert encrypted.count("enc:") == 2
    assert "new" not in encrypted
    assert "old one" not in encrypted
    assert encrypted.count("#") == text.count("#"), "comments stay"
    secrets = load(path, environ={}, key_file=str(vault.path)).entra.client_secrets
    assert [secret.reveal() for secret in secrets] == ["new", "old one"]
    assert encrypt_file(path, vault) == 2, "anew"
    assert decrypt_file(path, vault) == 2
    assert load(path, environ={}).entra.client_secrets == secrets


def test_the_secret_that_is_in_the_file_is_encrypted_and_the_other_left(tmp_path: Path, vault: Vault) -> None:
    path = written(
        tmp_path, "oauth2_config: {client_id: a, tenant_id: c, client_secret: [{env: NEW}, old]}\nlog_level: info\n"
    )
    assert encrypt_file(path, vault) == 1
    assert "[{env: NEW}, enc:" in path.read_text()
    secrets = load(path, environ={"NEW": "new"}, key_file=str(vault.path)).entra.client_secrets
    assert [secret.reveal() for secret in secrets] == ["new", "old"]
