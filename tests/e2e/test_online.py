# SPDX-License-Identifier: MIT
"""check --online, send-test and init against the sandbox: each thing that can be wrong is named, with what to do."""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.credentials import hash_password
from relay.selfsigned import write_pair
from tests.support.relay_process import CLIENT_ID, CLIENT_SECRET, RelayProcess, config_for, run_once
from tests.support.sandbox_client import Upstream

FALLBACK = {"fallback_smtp_user": "fallback@example.com", "fallback_smtp_pass": "x"}
APP = {
    "users": [{"username": "s", "password_hash": "", "mailbox": "scanner@example.com"}],
    "default_mailbox": "relay@example.com",
}


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def check(
    config_file: Path, config: dict[str, Any], *arguments: str | Path, env: dict[str, str] | None = None
) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit code, and the steps by name."""
    config_file.write_text(yaml.safe_dump(config))
    ended = run_once("check", "--json", "--config", config_file, *arguments, env=env)
    assert ended.stderr == ""
    for secret in (CLIENT_SECRET, "eyJ"):
        assert secret not in ended.stdout
    return ended.returncode, {step["name"]: step for step in json.loads(ended.stdout)}


def entra(upstream: Upstream, **keys: str) -> dict[str, Any]:
    config = config_for(upstream)
    return {**config, "oauth2_config": {**config["oauth2_config"], **keys}}


def failed(steps: dict[str, dict[str, str]]) -> list[str]:
    for step in steps.values():
        assert step["outcome"] != "failed" or step["advice"], step
    return [name for name, step in steps.items() if step["outcome"] == "failed"]


def test_all_is_well(config_file: Path, upstream: Upstream) -> None:
    config_file.write_text(yaml.safe_dump(config_for(upstream, **FALLBACK)))
    ended = run_once("check", "--online", "--config", config_file, "--send-to", "you@example.org")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "✘" not in ended.stdout
    assert ended.stdout.count("✔") == 10
    (message,) = upstream.messages()
    assert (message["mailbox"], message["to"]) == ("fallback@example.com", ["you@example.org"])
    assert message["save_to_sent"] is False


def test_nothing_is_sent_without_being_told(config_file: Path, upstream: Upstream) -> None:
    code, steps = check(config_file, config_for(upstream, **FALLBACK))
    assert (code, failed(steps)) == (0, [])
    assert steps["mailbox fallback@example.com"]["outcome"] == "ok"
    assert upstream.messages() == []


def test_flow_password_needs_a_user(config_file: Path, upstream: Upstream, tmp_path: Path) -> None:
    code, steps = check(config_file, config_for(upstream))
    assert (code, steps["token"]["outcome"], steps["app and secret"]["outcome"]) == (0, "skipped", "ok")
    assert "--user" in steps["token"]["text"]
    code, steps = check(config_file, config_for(upstream), "--send-to", "you@example.org")
    assert (code, failed(steps)) == (1, ["test mail to you@example.org"]), "what was asked for was not done"
    (tmp_path / "password").write_text("right\n")
    login = ("--user", "me@example.com", "--password-file", tmp_path / "password")
    code, steps = check(config_file, config_for(upstream), *login)
    assert (code, steps["mailbox me@example.com"]["outcome"]) == (0, "ok")


@pytest.mark.parametrize(
    ("keys", "step", "word"),
    [
        ({"client_secret": "wrong"}, "app and secret", "AADSTS7000215"),
        ({"client_id": "11111111-0000-0000-0000-000000000000"}, "app and secret", "AADSTS700016"),
        ({"tenant_id": "another.example"}, "tenant", "tenant_id"),
        ({"authority": "https://no-such-host.invalid"}, "DNS of Entra ID", "name"),
        ({"authority": "https://127.0.0.1:1"}, "TLS to Entra ID", "firewall"),
    ],
)
def test_entra_faults(config_file: Path, upstream: Upstream, keys: dict[str, str], step: str, word: str) -> None:
    code, steps = check(config_file, {**entra(upstream, **keys), **FALLBACK})
    assert code == 1
    assert failed(steps)[0] == step
    assert word in str(steps[step])
    assert steps["token"]["outcome"] == steps["mailbox"]["outcome"] == "skipped"


def test_one_of_two_secrets_is_refused(config_file: Path, upstream: Upstream) -> None:
    """Mail goes out by the other one, and without this nobody would know."""
    for two, refused in (([CLIENT_SECRET, "wrong"], "second"), (["wrong", CLIENT_SECRET], "first")):
        config = config_for(upstream, **FALLBACK)
        config["oauth2_config"]["client_secret"] = two
        code, steps = check(config_file, config)
        assert (code, failed(steps)) == (1, [f"{refused} client_secret"])
        assert steps["app and secret"]["outcome"] == steps["token"]["outcome"] == "ok"


def test_a_user_is_refused(config_file: Path, upstream: Upstream, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("x")
    login = ("--user", "aadsts50076@example.com", "--password-file", tmp_path / "password")
    code, steps = check(config_file, config_for(upstream), *login)
    assert (code, failed(steps)) == (1, ["token"])
    assert "multi-factor" in steps["token"]["advice"]


def test_a_ca_that_is_not_trusted(config_file: Path, upstream: Upstream) -> None:
    code, steps = check(config_file, config_for(upstream, ca_bundle=None, **FALLBACK))
    assert (code, failed(steps)) == (1, ["TLS to Entra ID", "TLS to Graph"])
    assert "ca_bundle" in steps["TLS to Graph"]["advice"]


def test_a_proxy_that_is_not_there(config_file: Path, upstream: Upstream) -> None:
    config = config_for(upstream, https_proxy="http://user:Pr0xyPass@127.0.0.1:1", **FALLBACK)
    code, steps = check(config_file, config)
    assert (code, failed(steps)) == (1, ["proxy"])
    assert "https_proxy" in steps["proxy"]["advice"]
    assert "Pr0xyPass" not in str(steps)


@pytest.mark.parametrize("proxy", ["http://user:Pr0xyPass@127.0.0.1:abc", "http://[::1"])
def test_a_proxy_of_the_environment_that_is_no_address(config_file: Path, upstream: Upstream, proxy: str) -> None:
    code, steps = check(config_file, config_for(upstream, **FALLBACK), env={"HTTPS_PROXY": proxy})
    assert (code, failed(steps)) == (1, ["Entra ID's proxy", "Graph's proxy"])
    assert "HTTPS_PROXY" in steps["Graph's proxy"]["advice"]
    assert "Pr0xyPass" not in str(steps)


def test_a_proxy_of_the_environment_without_its_scheme(config_file: Path, upstream: Upstream) -> None:
    config = config_for(upstream, **FALLBACK)
    code, steps = check(config_file, config, env={"HTTPS_PROXY": "user:Pr0xyPass@127.0.0.1:1"})
    assert (code, failed(steps)) == (1, ["proxy"])
    assert steps["proxy"]["text"] == "127.0.0.1:1"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"status": 404, "code": "ErrorInvalidUser"}, "ErrorInvalidUser"),
        ({"status": 403, "code": "ErrorAccessDenied"}, "ErrorAccessDenied"),
        ({"status": 503}, "503"),
        ({"status": 504}, "504"),
    ],
)
def test_mailbox_faults(config_file: Path, upstream: Upstream, fault: dict[str, Any], code: str) -> None:
    upstream.fault(kind="sendMail", **fault)
    exit_code, steps = check(config_file, config_for(upstream, **FALLBACK))
    assert (exit_code, failed(steps)) == (1, ["mailbox fallback@example.com"])
    assert code in steps["mailbox fallback@example.com"]["text"]
    assert "may have been sent" not in steps["mailbox fallback@example.com"]["advice"], "it is a mail to nobody"


def test_the_test_mail_is_refused(config_file: Path, upstream: Upstream) -> None:
    code, steps = check(config_file, config_for(upstream, **FALLBACK), "--send-to", "not an address")
    assert code == 1
    assert failed(steps) == ["test mail to not an address"]


def test_an_app_flow(config_file: Path, upstream: Upstream) -> None:
    ended = run_once("hash-password", text="x\n")
    app = {**APP, "users": [{**APP["users"][0], "password_hash": ended.stdout.strip()}]}  # type: ignore[dict-item]
    code, steps = check(
        config_file, {**entra(upstream, flow="client_credentials"), **app}, "--send-to", "you@example.org"
    )
    assert (code, failed(steps)) == (0, [])
    assert {"mailbox scanner@example.com", "mailbox relay@example.com"} <= set(steps)
    assert upstream.messages()[0]["mailbox"] == "scanner@example.com"


def test_no_permission(config_file: Path, tmp_path: Path) -> None:
    with Upstream(tmp_path, permissions=["User.Read"]) as upstream:
        code, steps = check(config_file, config_for(upstream, **FALLBACK))
        assert (code, failed(steps)) == (1, ["permissions", "mailbox fallback@example.com"])
        assert "Mail.Send" in steps["permissions"]["advice"]
        config = {**entra(upstream, flow="client_credentials"), "default_mailbox": "relay@example.com"}
        code, steps = check(config_file, config)
        assert failed(steps) == ["mailbox relay@example.com"], "RBAC for Applications shows in no token"
        assert "RBAC" in steps["permissions"]["text"]


@pytest.mark.parametrize(("expires", "code"), [("2020-01-01", 1), ("2999-01-01", 0)])
def test_the_secrets_end(config_file: Path, upstream: Upstream, expires: str, code: int) -> None:
    exit_code, steps = check(config_file, config_for(upstream, secret_expires=expires, **FALLBACK))
    assert exit_code == code
    assert (steps["secret's end"]["outcome"] == "failed") == bool(code)


@pytest.mark.parametrize(
    "options", [["--user", "a"], ["--password-file", "a"], ["--user", "a", "--password-file", "/no"]]
)
def test_login_options(config_file: Path, upstream: Upstream, options: list[str]) -> None:
    config_file.write_text(yaml.safe_dump(config_for(upstream)))
    for command in (["check", "--online"], ["send-test", "--to", "a@example.com"]):
        ended = run_once(*command, *options, "--config", config_file)
        assert ended.returncode == 2
        assert "Traceback" not in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


# send-test


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_send_test(tmp_path: Path, upstream: Upstream) -> None:
    config = config_for(upstream, listen_addr=f"127.0.0.1:{free_port()}", **FALLBACK)
    (tmp_path / "Bericht ä.bin").write_bytes(bytes(range(256)))
    (tmp_path / "password").write_text("Wort mit ü\n")
    with RelayProcess(tmp_path / "relay", config) as relay:
        to = ("--config", relay.config_file, "--to", "you@example.org")
        ended = run_once("send-test", *to, "--attach", tmp_path / "Bericht ä.bin")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "250 2.0.0" in ended.stdout
        login = ("--user", "me@example.com", "--password-file", tmp_path / "password")
        assert run_once("send-test", *to, *login, "--from", "other@example.com").returncode == 0
        first, second = upstream.messages()
        assert (first["user"], first["message"]["attachments"][0]["name"]) == ("fallback@example.com", "Bericht ä.bin")
        assert (second["user"], second["sender"]) == ("me@example.com", "other@example.com")

        wrong = ("--user", "aadsts50126@example.com", "--password-file", tmp_path / "password")
        ended = run_once("send-test", *to, *wrong)
        assert ended.returncode == 1
        assert "535 5.7.8" in ended.stderr
        assert len(relay.events("auth_failed")) == 1, "one try, not one a mechanism"
        ended = run_once("send-test", *to, "--from", "denied@example.com")
        assert ended.returncode == 1
        assert "550 5.7.60" in ended.stderr
        assert "Send As" in ended.stderr
        ended = run_once("send-test", *to, "--attach", tmp_path / "none")
        assert (ended.returncode, "cannot be read" in ended.stderr) == (1, True)


@pytest.mark.parametrize("address", ["jürgen@example.org", "you@bücher.example"])
def test_send_test_to_an_address_of_another_script(tmp_path: Path, upstream: Upstream, address: str) -> None:
    """RFC 6531; and check --online, which sends without SMTP."""
    with RelayProcess(tmp_path, config_for(upstream, listen_addr=f"127.0.0.1:{free_port()}", **FALLBACK)) as relay:
        for command in (["send-test", "--to", address], ["check", "--send-to", address]):
            ended = run_once(*command, "--config", relay.config_file)
            assert (ended.returncode, ended.stderr) == (0, "")
    assert [mail["to"] for mail in upstream.messages()] == [[address], [address]]


def test_send_test_over_tls(tmp_path: Path, upstream: Upstream) -> None:
    cert_file, key_file = write_pair(tmp_path, ["relay.example"], datetime.now(UTC))
    tls = {"cert_file": str(cert_file), "key_file": str(key_file)}
    config = config_for(upstream, listen_addr=f"127.0.0.1:{free_port()}", tls=tls, **FALLBACK)
    with RelayProcess(tmp_path / "relay", config) as relay:
        ended = run_once("send-test", "--config", relay.config_file, "--to", "you@example.org")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "with TLS" in ended.stdout


def test_send_test_writes_from_the_users_mailbox(tmp_path: Path, upstream: Upstream) -> None:
    user = {"username": "Scanner", "password_hash": hash_password("pw"), "mailbox": "scanner@example.com"}
    config = config_for(upstream, listen_addr=f"127.0.0.1:{free_port()}", users=[user])
    config["oauth2_config"]["flow"] = "client_credentials"
    (tmp_path / "password").write_text("pw\n")
    login = ("--user", "scanner", "--password-file", tmp_path / "password")
    with RelayProcess(tmp_path / "relay", config) as relay:
        ended = run_once("send-test", "--config", relay.config_file, "--to", "you@example.org", *login)
        assert (ended.returncode, ended.stderr) == (0, "")
    (message,) = upstream.messages()
    assert message["sender"] == "scanner@example.com"


def test_send_test_without_a_login(tmp_path: Path, upstream: Upstream) -> None:
    with RelayProcess(tmp_path / "relay", config_for(upstream, listen_addr=f"127.0.0.1:{free_port()}")) as relay:
        ended = run_once("send-test", "--config", relay.config_file, "--to", "you@example.org")
        assert ended.returncode == 1
        assert "530 5.7.0" in ended.stderr
        assert "--user" in ended.stderr


def test_send_test_to_nobody(config_file: Path, upstream: Upstream) -> None:
    for listen_addr, word in ((f"127.0.0.1:{free_port()}", "is the relay running?"), ("127.0.0.1:0", "fixed one")):
        config_file.write_text(yaml.safe_dump(config_for(upstream, listen_addr=listen_addr)))
        ended = run_once("send-test", "--config", config_file, "--to", "you@example.org")
        assert ended.returncode == 1
        assert word in ended.stderr


# init


def test_init(config_file: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a'b: #c~D\n")
    options = ("--tenant-id", "example.com", "--client-id", CLIENT_ID, "--client-secret-file", tmp_path / "secret")
    ended = run_once("init", "--offline", "--config", config_file, *options)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert config_file.stat().st_mode & 0o777 == 0o600
    given = yaml.safe_load(config_file.read_text())["oauth2_config"]
    assert given == {"tenant_id": "example.com", "client_id": CLIENT_ID, "client_secret": "a'b: #c~D"}
    assert "\noauth2_config:\n  tenant_id: 'example.com'\n" in config_file.read_text(), "as people write it"
    assert run_once("check", "--config", config_file).returncode == 0
    ended = run_once("init", "--offline", "--config", config_file, *options)
    assert (ended.returncode, "is there already" in ended.stderr) == (2, True)


@pytest.mark.parametrize("tenant", ["", "two words", "a/b"])
def test_init_refuses_what_cannot_be(config_file: Path, tenant: str) -> None:
    options = ("--client-id", CLIENT_ID, "--client-secret-file", "-")
    ended = run_once("init", "--offline", "--config", config_file, "--tenant-id", tenant, *options, text="secret\n")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert not config_file.exists()


def test_init_asks(config_file: Path) -> None:
    options = ("--client-secret-file", "/dev/null", "--offline")
    ended = run_once("init", "--config", config_file, *options, text=f"example.com\n{CLIENT_ID}\nsecret\n")
    assert "Directory (tenant) ID" in ended.stdout
    assert os.path.exists(config_file) == (ended.returncode == 0)


def test_init_takes_its_answers_from_a_pipe(config_file: Path) -> None:
    ended = run_once("init", "--config", config_file, "--offline", text=f"example.com\n{CLIENT_ID}\nsecret\n")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert yaml.safe_load(config_file.read_text())["oauth2_config"]["client_secret"] == "secret"
