# SPDX-License-Identifier: MIT
"""The process: its command line, signals, drain, reload, limits and timeouts (contract §1, §3, §8)."""

from __future__ import annotations

import json
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from relay import __version__
from relay.selfsigned import write_pair
from tests.support.relay_process import (
    CHECKOUT,
    PROGRAM,
    RelayProcess,
    config_for,
    environment,
    run_once,
    wait_until,
)
from tests.support.sandbox_client import Upstream

SENDER, RECIPIENT = "me@example.com", "you@example.org"
MINIMAL = "oauth2_config: {client_id: a, client_secret: b, tenant_id: c}\n"
SYSTEM_CONFIG = Path("/etc/graph-smtp-relay/config.yaml")


def send(client: smtplib.SMTP, subject: str = "A report") -> tuple[int, bytes]:
    assert client.mail(SENDER)[0] == 250
    assert client.rcpt(RECIPIENT)[0] == 250
    return client.data(f"From: {SENDER}\r\nTo: {RECIPIENT}\r\nSubject: {subject}\r\n\r\nText.\r\n")


def is_over(client: smtplib.SMTP) -> bool:
    """Whether the server has closed; waits for it."""
    with pytest.raises(smtplib.SMTPServerDisconnected):
        client.getreply()
    return True


@pytest.fixture
def lone_program(tmp_path: Path) -> Path:
    """relay.py in a directory of its own, as when somebody copies a checkout."""
    shutil.copy(PROGRAM, tmp_path)
    (tmp_path / "relay").symlink_to(CHECKOUT / "relay")
    return tmp_path / "relay.py"


# The command line


def test_version() -> None:
    ended = run_once("version")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"graph-smtp-relay {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments", [["--config", "{}", "check"], ["check", "--config", "{}"]], ids=["before", "after"]
)
def test_check_takes_config_before_and_after(tmp_path: Path, arguments: list[str]) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(MINIMAL)
    ended = run_once(*(argument.format(path) for argument in arguments))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert str(path) in ended.stdout


def test_check_warns_of_a_secret_that_ends(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(MINIMAL + "secret_expires: 2026-01-31\n")
    ended = run_once("check", "--config", path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "warning: the client secret has ended" in ended.stdout


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_faulty_config(tmp_path: Path, command: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(MINIMAL + "max_conections: 3\nlog_level: loud\n")
    ended = run_once(command, "--config", path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"{path}:2: max_conections: unknown key (did you mean max_connections?)" in ended.stderr
    assert f"{path}:3: log_level" in ended.stderr
    assert len(ended.stderr.splitlines()) == 2


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    ended = run_once("run", "--config", tmp_path / "none.yaml")
    assert ended.returncode == 2
    assert ended.stderr == f"{tmp_path / 'none.yaml'}: cannot be read: No such file or directory\n"


@pytest.mark.skipif(SYSTEM_CONFIG.exists(), reason=f"this machine has a {SYSTEM_CONFIG}")
def test_no_config_at_all(lone_program: Path) -> None:
    ended = run_once(program=lone_program)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "no configuration file" in ended.stderr
    assert "sandbox" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(SYSTEM_CONFIG.exists(), reason=f"this machine has a {SYSTEM_CONFIG}")
def test_no_config_at_all_names_the_example() -> None:
    ended = run_once(cwd=Path("/"))
    assert f"every key, with its default: {CHECKOUT / 'conf' / 'config.yaml'}" in ended.stderr


def test_the_version_is_said_either_way() -> None:
    assert run_once("version").stdout == run_once("--version").stdout == f"graph-smtp-relay {__version__}\n"


@pytest.mark.parametrize("order", [("--config", "{}", "sandbox"), ("sandbox", "--config", "{}")])
def test_the_sandbox_takes_its_smtp_side_from_a_config(tmp_path: Path, order: tuple[str, ...]) -> None:
    """Addresses and limits are the file's; neither its way to Microsoft nor its logins are asked."""
    path = tmp_path / "some.yaml"
    path.write_text(
        "listen_addr: [127.0.0.1:0, 127.0.0.2:0]\nmax_message_size: 1000\nhttps_proxy: http://127.0.0.1:1\nworkers: 2\n"
        "oauth2_config: {flow: client_credentials}\n"  # no account is needed
    )
    with RelayProcess(tmp_path, {}, arguments=[word.format(path) for word in order]) as relay:
        wait_until(
            lambda: re.search(
                r"sandbox: listening on 127\.0\.0\.1:\d+, 127\.0\.0\.2:\d", relay.stdout_file.read_text()
            ),
            "both addresses in the sandbox's output",
        )
        for login in (None, ("anybody", "at all")):
            with smtplib.SMTP("127.0.0.1", relay.port) as client:
                assert "size 1000" in client.ehlo()[1].decode().lower()
                if login is not None:
                    client.login(*login)
                assert send(client)[0] == 250


def test_a_config_that_the_sandbox_cannot_read(tmp_path: Path) -> None:
    ended = run_once("sandbox", "--config", tmp_path / "none.yaml")
    assert (ended.returncode, ended.stderr) == (
        2,
        f"{tmp_path / 'none.yaml'}: cannot be read: No such file or directory\n",
    )


@pytest.mark.parametrize("option", ["--listen", "--admin"])
def test_an_address_that_the_sandbox_cannot_take(option: str) -> None:
    ended = run_once("sandbox", option, "nowhere")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"graph-smtp-relay: {option}: must be HOST:PORT")


def test_config_from_the_environment_and_beside_the_program(lone_program: Path, tmp_path: Path) -> None:
    beside, named = tmp_path / "config.yaml", tmp_path / "named.yaml"
    beside.write_text(MINIMAL)
    named.write_text(MINIMAL)
    (tmp_path / "empty").mkdir()
    elsewhere = {"program": lone_program, "cwd": tmp_path / "empty"}
    assert str(beside) in run_once("check", **elsewhere).stdout
    assert str(named) in run_once("check", env={"GRAPH_SMTP_RELAY_CONFIG": str(named)}, **elsewhere).stdout
    ended = run_once("check", "--config", beside, env={"GRAPH_SMTP_RELAY_CONFIG": str(named)}, **elsewhere)
    assert str(beside) in ended.stdout


@pytest.mark.parametrize("arguments", [["--no-such-flag"], ["dance"], ["check", "--config"]])
def test_usage_errors(arguments: list[str]) -> None:
    ended = run_once(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "usage:" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_run_is_the_default_command(tmp_path: Path, upstream: Upstream) -> None:
    config_file = tmp_path / "config.yaml"
    with (
        RelayProcess(tmp_path, config_for(upstream), arguments=("--config", config_file)) as relay,
        relay.smtp() as client,
    ):
        assert client.noop()[0] == 250


def test_the_sandbox_makes_the_directory_to_save_to(tmp_path: Path) -> None:
    arguments = ("sandbox", "--listen", "127.0.0.1:0", "--log-level", "info", "--save", tmp_path / "all" / "mails")
    with RelayProcess(tmp_path / "relay", {}, arguments=arguments) as relay, relay.smtp() as client:
        assert send(client)[0] == 250
        assert len(list((tmp_path / "all" / "mails").iterdir())) == 1


def test_the_sandbox_says_where_it_cannot_save(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = run_once("sandbox", "--listen", "127.0.0.1:0", "--save", tmp_path / "file")
    assert (ended.returncode, ended.stderr) == (1, f"graph-smtp-relay: --save {tmp_path}/file: File exists\n")


def test_the_sandbox_says_that_it_has_no_place_for_temporary_files(tmp_path: Path) -> None:
    """As in a container whose file system is read-only. Here no file may have a size."""
    ended = run_once("sandbox", "--listen", "127.0.0.1:0", prefix=("prlimit", "--fsize=0"), cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("graph-smtp-relay: no place for the sandbox's certificate: No usable temporary directory")
    assert line.endswith("; set TMPDIR")


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_drain(tmp_path: Path, upstream: Upstream, number: signal.Signals) -> None:
    """The idle are told 421, new ones are refused, what is in flight gets its 250 and then its 421."""
    with RelayProcess(tmp_path, config_for(upstream, shutdown_timeout=60)) as relay, ThreadPoolExecutor(1) as threads:
        idle, in_mail, busy = relay.smtp(), relay.smtp(SENDER, "x"), relay.smtp(SENDER, "x")
        assert in_mail.mail(SENDER)[0] == 250
        upstream.fault(kind="sendMail", hold=True)
        answer = threads.submit(send, busy)
        wait_until(lambda: upstream.stats()["max_concurrent"].get(SENDER), "the request in flight")
        relay.signal(number)
        for client in (idle, in_mail):
            code, text = client.getreply()
            assert (code, text.split()[0]) == (421, b"4.3.2")
            assert is_over(client)
        with pytest.raises(ConnectionRefusedError), socket.create_connection((relay.host, relay.port)):
            pass
        upstream.release()
        assert answer.result()[0] == 250
        code, text = busy.getreply()
        assert (code, text.split()[0]) == (421, b"4.3.2")
        busy.close()
        assert relay.wait() == 0
        assert [line["event"] for line in relay.log()][-1] == "stopped"
        assert relay.stderr == ""
    assert len(upstream.messages()) == 1


# What raises a signal in a process that is being started: put in front of the program as sitecustomize.
RAISE = """
import os, sys
name, number = os.environ["WHEN"], int(os.environ["NUMBER"])
def note(event, arguments):
    global name
    if event == "import" and arguments[0] == name:
        name = ""
        os.kill(os.getpid(), number)
sys.addaudithook(note)
"""


def raising(tmp_path: Path, when: str, number: signal.Signals) -> dict[str, str]:
    """Environment of a process that gets this signal when it loads this module."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(RAISE, encoding="utf-8")
    return {"PYTHONPATH": str(tmp_path / "site"), "WHEN": when, "NUMBER": str(int(number))}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("when", ["gevent.monkey", "relay.cli", "relay.intake"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_stop_while_it_starts(tmp_path: Path, number: signal.Signals, when: str, workers: int) -> None:
    """Before it reads the configuration, and behind it: no traceback, and no signal that is lost."""
    path = tmp_path / "config.yaml"
    path.write_text(f"{MINIMAL}listen_addr: 127.0.0.1:0\nworkers: {workers}\n", encoding="utf-8")
    path.chmod(0o600)
    ended = run_once("--config", path, env=raising(tmp_path, when, number))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("when", ["gevent.monkey", "relay.cli", "relay.intake"])
def test_a_reload_while_it_starts(tmp_path: Path, upstream: Upstream, when: str, workers: int) -> None:
    """It waits for the start, since what was read may have changed."""
    config = config_for(upstream, workers=workers)
    with RelayProcess(tmp_path, config, env=raising(tmp_path, when, signal.SIGHUP)) as relay:
        relay.wait_for("reloaded")
        with relay.smtp() as client:
            assert client.noop()[0] == 250


# As above, but a file is gone then.
VANISH = """
import os, sys
def note(event, arguments):
    if event == "import" and arguments[0] == os.environ["WHEN"] and os.path.exists(os.environ["GONE"]):
        os.unlink(os.environ["GONE"])
sys.addaudithook(note)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_goes_while_it_starts(tmp_path: Path, workers: int) -> None:
    """Such as a certificate that is being renewed: one line, and no traceback."""
    cert, key = write_pair(tmp_path, ["localhost"], datetime.now(UTC))
    path = tmp_path / "config.yaml"
    tls = f"tls: {{cert_file: {cert}, key_file: {key}}}\n"
    path.write_text(f"{MINIMAL}listen_addr: 127.0.0.1:0\nworkers: {workers}\n{tls}", encoding="utf-8")
    path.chmod(0o600)
    env = raising(tmp_path, "relay.app" if workers == 1 else "relay.supervisor", signal.SIGTERM)
    (tmp_path / "site" / "sitecustomize.py").write_text(VANISH, encoding="utf-8")
    ended = run_once("--config", path, env={**env, "GONE": str(cert)})
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"{path}: tls.cert_file or tls.key_file cannot be used: No such file or directory\n"


def test_ctrl_c_ends_other_commands_with_1(tmp_path: Path) -> None:
    ended = run_once("hash-password", text="x\n", env=raising(tmp_path, "relay.cli", signal.SIGINT))
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "")


def test_drain_lets_a_message_come_in_to_its_end(tmp_path: Path, upstream: Upstream) -> None:
    with RelayProcess(tmp_path, config_for(upstream)) as relay:
        client = relay.smtp(SENDER, "x")
        client.mail(SENDER)
        client.rcpt(RECIPIENT)
        assert client.docmd("DATA")[0] == 354
        client.send(b"Subject: half\r\n\r\nText")
        relay.signal(signal.SIGTERM)
        relay.wait_for("stopping")
        client.send(b" to the end.\r\n.\r\n")
        assert client.getreply()[0] == 250
        assert client.getreply()[0] == 421
        client.close()
        assert relay.wait() == 0
    assert upstream.messages()[0]["message"]["body"]["content"].strip() == "Text to the end."


def test_shutdown_timeout_is_kept(tmp_path: Path, upstream: Upstream) -> None:
    with RelayProcess(tmp_path, config_for(upstream, shutdown_timeout=1)) as relay, ThreadPoolExecutor(1) as threads:
        client = relay.smtp(SENDER, "x")
        upstream.fault(kind="sendMail", hang=True)
        answer = threads.submit(send, client)
        wait_until(lambda: upstream.stats()["max_concurrent"].get(SENDER), "the request in flight")
        relay.signal(signal.SIGTERM)
        start = time.monotonic()
        assert relay.wait() == 0
        assert time.monotonic() - start > 0.9
        assert relay.events("shutdown_timeout")[0]["sessions"]
        assert relay.stderr == ""
        assert answer.result()[0] == 421, "the client is told to come back"
        client.close()


def test_reload(tmp_path: Path, upstream: Upstream) -> None:
    config = config_for(upstream)
    with RelayProcess(tmp_path, config) as relay:
        old = relay.smtp()
        relay.write_config({**config, "max_message_size": 12345, "listen_addr": "127.0.0.1:1"})
        relay.signal(signal.SIGHUP)
        relay.wait_for("reloaded")
        assert "listen_addr" in relay.wait_for("restart_needed")["reason"]
        old.ehlo()
        assert old.esmtp_features["size"] == "26214400"  # a session ends with the configuration it began with
        old.quit()
        with relay.smtp() as new:
            assert new.esmtp_features["size"] == "12345"

        relay.write_config({**config, "max_message_size": "large", "dance": 1})
        relay.signal(signal.SIGHUP)
        wait_until(lambda: len(relay.events("reload_failed")) == 2, "both faults")
        assert all("config.yaml:" in line["reason"] for line in relay.events("reload_failed"))
        relay.write_config({**config, "log": "/no/such/directory/relay.log"})
        relay.signal(signal.SIGHUP)
        wait_until(lambda: len(relay.events("reload_failed")) == 3, "the fault")
        assert "/no/such/directory/relay.log" in relay.events("reload_failed")[2]["reason"]
        with relay.smtp(SENDER, "x") as new:
            assert new.esmtp_features["size"] == "12345"
            assert send(new)[0] == 250
        relay.assert_sound()


def test_reload_opens_the_log_file_anew(tmp_path: Path, upstream: Upstream) -> None:
    """What logrotate needs: rename, then SIGHUP."""
    log = tmp_path / "relay.log"
    with RelayProcess(tmp_path, config_for(upstream, log=str(log))) as relay:
        log.rename(tmp_path / "relay.log.1")
        relay.signal(signal.SIGHUP)
        wait_until(lambda: log.exists() and "reloaded" in log.read_text(), "the new log file")
        assert "listening" not in log.read_text()
        assert relay.stdout_file.read_text() == relay.stderr == ""


# Limits and timeouts


def test_max_connections(tmp_path: Path, upstream: Upstream) -> None:
    with RelayProcess(tmp_path, config_for(upstream, max_connections=2)) as relay:
        first, second = relay.smtp(), relay.smtp(SENDER, "x")
        with pytest.raises(smtplib.SMTPConnectError) as refused:
            relay.smtp()
        assert (refused.value.smtp_code, refused.value.smtp_error.split()[0]) == (421, b"4.7.0")
        relay.wait_for("too_many_connections")
        assert first.noop()[0] == 250
        assert send(second)[0] == 250
        first.quit()
        with relay.smtp() as third:
            assert third.noop()[0] == 250
        second.quit()
        relay.assert_sound()


@pytest.fixture(scope="module")
def hasty_relay(directory: Path, module_upstream: Upstream) -> Iterator[RelayProcess]:
    config = config_for(module_upstream, command_timeout=1, submit_timeout=10)
    with RelayProcess(directory / "hasty", config) as running:
        yield running
        running.assert_sound()


@pytest.mark.parametrize("said", [b"", b"EHLO client.example\r\nNOO", b"EHLO client.example\r\nAUTH LOGIN\r\n"])
def test_command_timeout(hasty_relay: RelayProcess, said: bytes) -> None:
    start = time.monotonic()
    with socket.create_connection((hasty_relay.host, hasty_relay.port), timeout=20) as client:
        client.sendall(said)
        heard = b"".join(iter(lambda: client.recv(4096), b""))
    assert time.monotonic() - start > 0.9
    assert heard.splitlines()[-1].startswith(b"421 4.4.2 ")


def test_a_client_that_ends_with_bare_lf(hasty_relay: RelayProcess) -> None:
    with hasty_relay.smtp(SENDER, "x") as client:
        client.mail(SENDER)
        client.rcpt(RECIPIENT)
        client.docmd("DATA")
        client.send(b"Subject: old device\n\nText\n.\n")
        assert client.getreply()[0] == 421
        client.close()
    assert "bare_lf_networks" in hasty_relay.wait_for("timeout", level="warning")["reason"]


def test_command_timeout_spares_what_is_in_flight(hasty_relay: RelayProcess, upstream: Upstream) -> None:
    upstream.fault(kind="sendMail", delay_s=1.3)
    with hasty_relay.smtp(SENDER, "x") as client:
        assert send(client)[0] == 250
        assert client.noop()[0] == 250


def hear_the_end(client: smtplib.SMTP) -> None:
    code, text = client.getreply()
    assert (code, text.split()[0]) == (421, b"4.4.2")
    assert is_over(client)


def test_connection_timeout(tmp_path: Path, upstream: Upstream) -> None:
    """One that talks on is ended too; one that runs out while Graph is being called gets its answer first."""
    with (
        RelayProcess(tmp_path, config_for(upstream, connection_timeout=3)) as relay,
        ThreadPoolExecutor(1) as threads,
    ):
        sending = relay.smtp(SENDER, "x")
        upstream.fault(kind="sendMail", hold=True)
        answer = threads.submit(send, sending)
        talking = relay.smtp()  # which ends later than the other would
        hear_the_end(talking)
        assert not answer.done()
        upstream.release()
        assert answer.result()[0] == 250
        hear_the_end(sending)
        relay.assert_sound()


@pytest.mark.parametrize("workers", [1, 2])
def test_nobody_reads_the_log_any_more(tmp_path: Path, upstream: Upstream, workers: int) -> None:
    """`2>&1 | tee …`, and tee is gone: mail goes on, and a stop is a stop."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config_for(upstream, workers=workers)), encoding="utf-8")
    command = [sys.executable, str(PROGRAM), "--config", str(path)]
    env = environment({"PYTHONUNBUFFERED": ""})
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env) as relay:
        assert relay.stdout is not None
        address = next(line["address"] for line in map(json.loads, relay.stdout) if line["event"] == "listening")
        relay.stdout.close()
        with smtplib.SMTP("127.0.0.1", int(address.rpartition(":")[2]), timeout=40) as client:
            client.login("me@example.com", "x")
            for _ in range(2):
                client.sendmail("me@example.com", "you@example.org", "Subject: a report\r\n\r\nText.\r\n")
        relay.terminate()
        assert relay.wait(60) == 0
    assert len(upstream.messages()) == 2
