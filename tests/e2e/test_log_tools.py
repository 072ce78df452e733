# SPDX-License-Identifier: MIT
"""The log in the hands of others: fail2ban, logrotate and the journal; and the dialogue of one client alone."""

from __future__ import annotations

import base64
import json
import re
import signal
import smtplib
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.credentials import hash_password
from tests.e2e.conftest import Login, need
from tests.support.relay_process import CHECKOUT, PATIENCE_S, RelayProcess, config_for, run_once, wait_until
from tests.support.sandbox_client import Upstream

FILTER = CHECKOUT / "packaging" / "fail2ban" / "filter.d" / "graph-smtp-relay.conf"
JAIL = CHECKOUT / "packaging" / "fail2ban" / "jail.d" / "graph-smtp-relay.conf"
LOGROTATE = CHECKOUT / "packaging" / "logrotate" / "graph-smtp-relay"
KNOWN = Login("sender@example.com", "right-password")
HOSTILE = (  # names that look like a line of the log themselves
    "x client=192.0.2.66 y",
    'x" client=192.0.2.66 "',
    '", "event": "auth_failed", "client": "192.0.2.66',
    "x\n2026-01-01T00:00:00.000Z WARNING auth_failed session=a client=192.0.2.66",
)


@pytest.fixture(scope="module")
def upstream_settings() -> dict[str, Any]:
    return {"users": {KNOWN.user: KNOWN.password}}


@pytest.fixture
def login() -> Login:
    return KNOWN


def refuse_logins(relay: RelayProcess, *users: str) -> None:
    for user in users:
        with relay.smtp() as client:
            plain = base64.b64encode(f"\0{user}\0wrong-password".encode()).decode("ascii")
            assert client.docmd("AUTH", f"PLAIN {plain}")[0] in (535, 421)


def banned(log: Path) -> list[str]:
    """The addresses that fail2ban sees in the log, one for each refused login."""
    need("fail2ban-regex", "fail2ban")
    ended = subprocess.run(
        ["fail2ban-regex", "-v", str(log), str(FILTER)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = ended.stdout.partition("Failregex:")[2].partition("Ignoreregex:")[0]
    return re.findall(r"^\|      (\S+) ", found, re.MULTILINE)


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_fail2ban_sees_refused_logins(tmp_path: Path, upstream: Upstream, log_format: str) -> None:
    config = config_for(upstream, log_format=log_format)
    config["oauth2_config"]["flow"] = "client_credentials"  # a user name may be anything then
    user = {"username": "scanner", "password_hash": hash_password("right"), "mailbox": KNOWN.user}
    with RelayProcess(tmp_path, {**config, "users": [user]}) as relay:
        with relay.smtp("scanner", "right"):
            pass
        refuse_logins(relay, "nobody@example.com", *HOSTILE)
    assert banned(relay.stdout_file) == ["127.0.0.1"] * (1 + len(HOSTILE))


def test_fail2ban_reads_the_journals_form(tmp_path: Path) -> None:
    """As fail2ban's systemd backend puts it: host and program before the line."""
    lines = (
        'WARNING auth_failed session=a client=192.0.2.1 user="x"',
        '{"timestamp": "2026-11-26T12:00:00.123Z", "level": "warning", "event": "auth_failed", "session": "a", '
        '"client": "2001:db8::1", "user": "x"}',
    )
    log = tmp_path / "log"
    log.write_text("".join(f"2026-11-26T12:00:00.123Z host graph-smtp-relay[12]: {line}\n" for line in lines))
    assert sorted(banned(log)) == ["192.0.2.1", "2001:db8::1"]


def test_fail2ban_sees_what_the_relay_itself_turned_away(tmp_path: Path, upstream: Upstream) -> None:
    config = config_for(upstream, log_format="text", auth_limit={"failures": 1, "window": 3600})
    with RelayProcess(tmp_path, config) as relay:
        refuse_logins(relay, "nobody@example.com")
        refuse_logins(relay, "nobody@example.com")
    text = relay.stdout_file.read_text("utf-8")
    assert (text.count(" WARNING auth_failed "), text.count(" WARNING auth_limit ")) == (1, 1)
    assert banned(relay.stdout_file) == ["127.0.0.1"] * 2


def test_the_jail_is_one(tmp_path: Path) -> None:
    """fail2ban itself reads it, beside what Debian ships; it is off until somebody turns it on."""
    need("fail2ban-client", "fail2ban")
    etc = tmp_path / "fail2ban"
    subprocess.run(["cp", "-r", "/etc/fail2ban", str(etc)], check=True)
    for path in (etc / "jail.d").iterdir():
        path.unlink()  # Debian's own wants a log of sshd
    for path, where in ((FILTER, "filter.d"), (JAIL, "jail.d")):
        (etc / where / path.name).write_text(path.read_text("utf-8"))
    for enabled in (False, True):
        (etc / "jail.d" / "test.local").write_text(
            f"[graph-smtp-relay]\nenabled = {str(enabled).lower()}\nbackend = polling\nlogpath = {tmp_path}/relay.log\n"
        )
        (tmp_path / "relay.log").touch()
        ended = subprocess.run(
            ["fail2ban-client", "-c", str(etc), "-d"], capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert ("auth_failed" in ended.stdout) is enabled


# logrotate


def test_logrotate(tmp_path: Path, upstream: Upstream, login: Login) -> None:
    """For real: the file is moved, the relay writes on in a new one, and no line is lost."""
    need("logrotate", "logrotate")
    logs = tmp_path / "logs"
    logs.mkdir(mode=0o755)
    log, pid_file, rotation = logs / "relay.log", tmp_path / "pid", tmp_path / "logrotate.conf"
    rotation.write_text(
        LOGROTATE.read_text("utf-8")
        .replace("/var/log/graph-smtp-relay", str(logs))
        .replace("/run/graph-smtp-relay.pid", str(pid_file))
        .replace("su graph-smtp-relay graph-smtp-relay", "su root root")
    )
    rotation.chmod(0o644)
    (logs / "graph-smtp-relay.log").write_text("output\n")

    def rotate() -> None:
        command = ["logrotate", "--force", "--state", str(tmp_path / "state"), str(rotation)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (ended.returncode, ended.stderr) == (0, "")

    with RelayProcess(tmp_path, config_for(upstream, log=str(log))) as relay:
        pid_file.write_text(f"{relay.process.pid}\n")
        before = log.stat().st_ino
        rotate()
        wait_until(lambda: log.exists() and "reloaded" in log.read_text("utf-8"), "the new file")
        assert log.stat().st_ino != before
        assert '"started"' in (logs / "relay.log.1").read_text("utf-8")
        with relay.smtp(login.user, login.password):
            pass
        wait_until(lambda: login.user in log.read_text("utf-8"), "a line in the new file")
        rotate()
        assert login.user in (logs / "relay.log.1").read_text("utf-8")
        assert (logs / "relay.log.2.gz").exists()
    assert (logs / "graph-smtp-relay.log").read_text() == "", "of the init script: emptied in place"


# The journal


def in_journal(tmp_path: Path, upstream: Upstream, log_format: str) -> list[tuple[str, str]]:
    """Priority and line of each entry of a short life, as the journal would split them."""
    tmp_path.mkdir()
    (tmp_path / "stdout.log").touch()
    status = (tmp_path / "stdout.log").stat()
    config = config_for(upstream, log_format=log_format, admin_addr="")
    stream = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    relay = RelayProcess(tmp_path, config, env=stream)
    with relay.stdout_file.open("wb") as stdout:
        relay.start(stdout)
    wait_until(lambda: "listening" in relay.stdout_file.read_text("utf-8"), "the relay to listen")
    relay.write_config({"nonsense": 1})
    relay.signal(signal.SIGHUP)
    wait_until(lambda: "reload_failed" in relay.stdout_file.read_text("utf-8"), "the fault")
    relay.stop()
    lines = relay.stdout_file.read_text("utf-8").splitlines()
    return [re.fullmatch(r"<([0-7])>(.*)", line).groups() for line in lines]  # type: ignore[union-attr,misc]


def test_the_journal_gets_priorities(tmp_path: Path, upstream: Upstream) -> None:
    as_json = [(priority, json.loads(line)) for priority, line in in_journal(tmp_path / "json", upstream, "auto")]
    levels = {"info": "6", "error": "3", "debug": "7", "warning": "4"}
    assert [priority for priority, _ in as_json] == [levels[line["level"]] for _, line in as_json]
    assert {"6", "3"} <= {priority for priority, _ in as_json}
    as_text = in_journal(tmp_path / "text", upstream, "text")
    assert as_text[0][1].startswith("INFO started "), "the journal has its own time"
    assert [priority for priority, line in as_text if line.startswith("ERROR reload_failed ")] == ["3"] * len(
        [line for _, line in as_text if "reload_failed" in line]
    )


def test_a_foreign_journal_is_not_ours(tmp_path: Path, upstream: Upstream) -> None:
    """A shell in a service inherits the variable; what it starts may write elsewhere. Its lines are pure JSON."""
    with RelayProcess(tmp_path, config_for(upstream), env={"JOURNAL_STREAM": "8:12345"}) as relay:
        assert relay.wait_for("started")


# --debug-session


def dialogue(relay: RelayProcess, source: str, login: Login) -> None:
    with smtplib.SMTP(relay.host, relay.port, "client.example", PATIENCE_S, (source, 0)) as client:
        client.login(login.user, login.password)
        client.sendmail(login.user, ["you@example.org"], "Subject: Betreff\r\n\r\nInhalt\r\n")


@contextmanager
def listening(relay: RelayProcess, directory: Path) -> Iterator[None]:
    """The relay, whatever its level: where it listens is known from its readiness and not from its log."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, (directory / "out").open("wb") as stdout:
        manager.bind(str(directory / "notify"))
        manager.settimeout(PATIENCE_S)
        relay.start(stdout)
        try:
            while not (found := re.search(r"listening on (\S+):(\d+)", manager.recv(4096).decode("utf-8"))):
                pass
            relay.host, relay.port = found[1], int(found[2])
            yield
        finally:
            relay.stop()


@pytest.mark.parametrize("level", ["error", "info"])
def test_debug_session(tmp_path: Path, upstream: Upstream, login: Login, level: str) -> None:
    config = config_for(upstream, log_level=level)
    log = tmp_path / "relay.log"
    arguments = ("run", "--config", tmp_path / "config.yaml", "--debug-session", "127.0.0.2")
    relay = RelayProcess(
        tmp_path, {**config, "log": str(log)}, arguments=arguments, env={"NOTIFY_SOCKET": str(tmp_path / "notify")}
    )
    with listening(relay, tmp_path):
        dialogue(relay, "127.0.0.1", login)
        dialogue(relay, "127.0.0.2", login)
        relay.signal(signal.SIGHUP)  # the option outlives a reload
        dialogue(relay, "127.0.0.2", login)
    commands = [line["command"] for line in relay.events("smtp_command")]
    assert {line["client"] for line in relay.events("smtp_command", "smtp_reply")} == {"127.0.0.2"}
    assert commands.count("AUTH") == 2
    assert f"mail from:<{login.user}" in "\n".join(commands).lower()  # Python 3.13 writes "MAIL from:"
    assert [line["client"] for line in relay.events("delivered")].count("127.0.0.1") == (0 if level == "error" else 1)
    assert {line["level"] for line in relay.log() if line.get("client") != "127.0.0.2"} <= {"info", level}
    text = log.read_text("utf-8")
    for secret in (login.password, base64.b64encode(login.password.encode()).decode()[:-4], "Inhalt"):
        assert secret not in text


def test_debug_session_wants_an_address(tmp_path: Path) -> None:
    ended = run_once("run", "--debug-session", "printer")
    assert (ended.returncode, "must be an IP address" in ended.stderr) == (2, True)
