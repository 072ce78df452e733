# SPDX-License-Identifier: MIT
"""Several processes that are one service: limits and memory over all of them, deaths, signals, one admin page."""

from __future__ import annotations

import itertools
import os
import signal
import smtplib
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.test_admin import address, get, metric
from tests.e2e.test_systemd import activated, told
from tests.support.relay_process import PATIENCE_S, RelayProcess, config_for, run_once, wait_until
from tests.support.sandbox_client import Upstream

SENDER, RECIPIENT = "me@example.com", "you@example.org"
_names = itertools.count(1)


@contextmanager
def service(directory: Path, upstream: Upstream, workers: int = 2, **keys: Any) -> Iterator[RelayProcess]:
    """Sound at the end, where it was not stopped."""
    with RelayProcess(directory, config_for(upstream, workers=workers, **keys)) as relay:
        yield relay
        if relay.process.poll() is None:
            relay.assert_sound()


def pids(relay: RelayProcess) -> dict[int, int]:
    """Process id by worker, of those that were started last."""
    return {line["worker"]: line["pid"] for line in relay.events("worker_started")}


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


def connect(relay: RelayProcess) -> tuple[smtplib.SMTP, int]:
    """A client, and the number of the worker that has it: the log tells."""
    name = f"client-{next(_names)}.example"
    client = smtplib.SMTP(relay.host, relay.port, local_hostname=name, timeout=PATIENCE_S)
    client.ehlo()
    return client, relay.wait_for("smtp_command", command=f"EHLO {name}")["worker"]


def one_at(relay: RelayProcess, worker: int) -> smtplib.SMTP:
    """A client of this worker: whoever is the first accepts, so it is tried until it is the one."""
    for _ in range(500):
        try:
            client, found = connect(relay)
        except smtplib.SMTPConnectError:  # those that were ended just now still have their places
            continue
        if found == worker:
            return client
        client.quit()
    pytest.fail(f"worker {worker} accepts nothing")


def submit(client: smtplib.SMTP, subject: str = "A report", sender: str = SENDER) -> str:
    """Code and enhanced code."""
    start(client, subject, sender)
    code, text = client.getreply()
    return f"{code} {text.split()[0].decode()}"


def start(client: smtplib.SMTP, subject: str = "A report", sender: str = SENDER) -> None:
    """Everything up to the final dot, with no look at the answer."""
    assert client.mail(sender)[0] == 250
    assert client.rcpt(RECIPIENT)[0] == 250
    assert client.docmd("DATA")[0] == 354
    client.send(f"From: {sender}\r\nTo: {RECIPIENT}\r\nSubject: {subject}\r\n\r\nText.\r\n.\r\n")


def kill(relay: RelayProcess, worker: int) -> None:
    """SIGKILL, and wait for the next one in its place."""
    before = len(relay.events("worker_started", worker=worker))
    os.kill(pids(relay)[worker], signal.SIGKILL)
    wait_until(lambda: len(relay.events("worker_started", worker=worker)) > before, "the next worker")


# Processes


def test_one_worker_is_one_process(tmp_path: Path, upstream: Upstream) -> None:
    with service(tmp_path, upstream, 1) as relay:
        with relay.smtp(SENDER, "x") as client:
            assert submit(client) == "250 2.0.0"
        assert children(relay.process.pid) == []
        assert not [line for line in relay.log() if "worker" in line]


def test_auto_means_one_for_each_core(tmp_path: Path, upstream: Upstream) -> None:
    cores = sorted(os.sched_getaffinity(0))[:2]
    for used in ([cores[0]], cores):
        os.sched_setaffinity(0, used)
        try:
            with RelayProcess(tmp_path / str(len(used)), config_for(upstream, workers="auto")) as relay:
                assert len(pids(relay)) == (len(used) if len(used) > 1 else 0)
        finally:
            os.sched_setaffinity(0, cores)


def test_the_parent_has_one_thread(tmp_path: Path, upstream: Upstream) -> None:
    """Whatever another one holds at a fork would be held in the child for ever."""
    with service(tmp_path, upstream, listen_addr="localhost:0") as relay:
        wait_until(lambda: len(os.listdir(f"/proc/{relay.process.pid}/task")) == 1, "the look-up's thread to end")


def test_every_line_of_a_worker_names_it(tmp_path: Path, upstream: Upstream) -> None:
    with service(tmp_path, upstream) as relay:
        assert sorted(pids(relay)) == [1, 2]
        for worker in (1, 2):
            client = one_at(relay, worker)
            client.login(SENDER, "x")
            assert submit(client) == "250 2.0.0"
            client.quit()
            assert relay.wait_for("delivered", worker=worker)
        assert [line.get("worker") for line in relay.events("started", "listening")] == [None, None]
        text = relay.stdout_file.read_text()
    assert text.count('"listening"') == text.count('"started"') == 1


def test_an_address_in_use(tmp_path: Path, upstream: Upstream) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = config_for(upstream, workers=2, listen_addr=f"127.0.0.1:{taken.getsockname()[1]}")
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        result = run_once("run", "--config", tmp_path / "config.yaml")
    assert result.returncode == 1
    assert "in use" in result.stderr
    assert "Traceback" not in result.stderr


# Limits


@pytest.mark.parametrize("workers", [2, 3])
def test_max_connections_over_all_workers(tmp_path: Path, upstream: Upstream, workers: int) -> None:
    with service(tmp_path, upstream, workers, max_connections=5) as relay, ExitStack() as stack:
        clients = [stack.enter_context(connect(relay)[0]) for _ in range(5)]
        for client in clients[:3]:
            for _ in range(4):
                with pytest.raises(smtplib.SMTPConnectError) as refused:
                    relay.smtp()
                assert (refused.value.smtp_code, refused.value.smtp_error.split()[0]) == (421, b"4.7.0")
            client.quit()
            wait_until(lambda: is_admitted(relay, stack), "a free place")


def is_admitted(relay: RelayProcess, stack: ExitStack) -> bool:
    """Whether one more client gets in, who then stays."""
    try:
        stack.enter_context(relay.smtp())
    except smtplib.SMTPConnectError:
        return False
    return True


def test_a_flood_never_gets_more_than_max_connections(tmp_path: Path, upstream: Upstream) -> None:
    """All at once, onto all workers."""
    with service(tmp_path, upstream, 3, max_connections=7) as relay, ThreadPoolExecutor(40) as threads:
        socks = [socket.create_connection((relay.host, relay.port), PATIENCE_S) for _ in range(40)]
        greetings = Counter(threads.map(lambda sock: sock.recv(100)[:3], socks))
        assert greetings == {b"220": 7, b"421": 33}
        for sock in socks:
            sock.close()


def test_a_killed_worker_keeps_no_connection(tmp_path: Path, upstream: Upstream) -> None:
    with service(tmp_path, upstream, max_connections=4) as relay, ExitStack() as stack:
        mine = [one_at(relay, 1) for _ in range(2)]
        others = [one_at(relay, 2) for _ in range(2)]
        kill(relay, 1)
        for client in mine:
            client.close()
        for _ in range(2):
            wait_until(lambda: is_admitted(relay, stack), "a free place")
        assert not is_admitted(relay, stack)
        for client in others:
            assert client.noop()[0] == 250
            client.quit()


def test_max_connections_changes_only_with_a_restart(tmp_path: Path, upstream: Upstream) -> None:
    """Also for a worker that starts later: the others hold on to what was."""
    config = config_for(upstream, workers=2, max_connections=4)
    with RelayProcess(tmp_path, config) as relay, ExitStack() as stack:
        stack.enter_context(one_at(relay, 2))
        relay.write_config({**config, "max_connections": 1})
        relay.signal(signal.SIGHUP)
        relay.wait_for("reloaded")
        assert "max_connections" in relay.wait_for("restart_needed")["reason"]
        kill(relay, 1)
        stack.enter_context(one_at(relay, 1))
        relay.assert_sound()


def test_auth_limit_over_all_workers(tmp_path: Path, upstream: Upstream) -> None:
    with service(tmp_path, upstream, auth_limit={"failures": 3, "window": 3600}) as relay:
        for worker in (1, 2, 1):
            client = one_at(relay, worker)
            assert client.docmd("AUTH", "PLAIN AG5vYm9keQB3cm9uZw==")[0] == 535  # nobody, wrong
            client.quit()
        for worker in (1, 2):
            client = one_at(relay, worker)
            assert client.docmd("AUTH", "PLAIN AG1lQGV4YW1wbGUuY29tAHg=")[0] == 421  # me@example.com, x
            client.close()
        kill(relay, 2)
        client = one_at(relay, 2)
        assert client.docmd("AUTH", "PLAIN AG1lQGV4YW1wbGUuY29tAHg=")[0] == 421, "who starts knows what was before"
        client.close()


def test_a_wrong_password_is_asked_for_once(tmp_path: Path, upstream: Upstream) -> None:
    """A worker does not ask Entra ID with a password that another one has seen fail in the last minute."""
    with service(tmp_path, upstream) as relay:
        for worker in (1, 2, 1, 2):
            client = one_at(relay, worker)
            assert client.docmd("AUTH", "PLAIN AG1lQGV4YW1wbGUuY29tAHdyb25n")[0] == 535  # me@example.com, wrong
            client.quit()
        tokens = upstream.stats()["requests"]["token"]
    assert sum(tokens.values()) == 1, tokens


def test_one_fetch_at_a_time_for_one_user(tmp_path: Path, upstream: Upstream) -> None:
    """The others wait for its outcome, in whatever worker: one wrong password of many devices is one failure."""
    with service(tmp_path, upstream, 3) as relay, ThreadPoolExecutor(9) as threads:
        clients = [one_at(relay, worker) for worker in (1, 2, 3) for _ in range(3)]
        upstream.fault(kind="token", hold=True, count=-1)
        wrong = "PLAIN AG1lQGV4YW1wbGUuY29tAHdyb25n"  # me@example.com, wrong
        answers = [threads.submit(client.docmd, "AUTH", wrong) for client in clients]
        wait_until(lambda: len(relay.events("smtp_command", command="AUTH")) == 9, "all logins")
        upstream.release()
        assert [answer.result()[0] for answer in answers] == [535] * 9
        assert sum(upstream.stats()["requests"]["token"].values()) == 1
        for client in clients:
            client.quit()


@pytest.fixture(scope="module")
def upstream_settings() -> dict[str, Any]:
    users = {f"user{number}@example.com": "x" for number in range(4)}
    return {"mailbox_concurrency": 4, "users": {SENDER: "x", **users}}


@pytest.mark.parametrize("workers", [2, 3])
def test_mailbox_concurrency_over_all_workers(tmp_path: Path, upstream: Upstream, workers: int) -> None:
    """The sandbox answers 429 to a fifth request at a time, as Graph does."""
    upstream.fault(kind="sendMail", hold=True, count=-1)
    with service(tmp_path, upstream, workers) as relay, ThreadPoolExecutor(18) as threads:
        clients = [one_at(relay, 1 + number % workers) for number in range(18)]
        for client in clients:
            client.login(SENDER, "x")
        answers = [threads.submit(submit, client) for client in clients]
        wait_until(lambda: len(relay.events("smtp_reply", reply="354")) == 18, "all messages")
        wait_until(lambda: upstream.stats()["max_concurrent"].get(SENDER) == 4, "all places to be taken")
        upstream.release()
        assert {answer.result() for answer in answers} == {"250 2.0.0"}
        assert upstream.stats()["max_concurrent"][SENDER] == 4
        assert not relay.events("graph_retry")
        for client in clients:
            client.quit()
    assert len(upstream.messages()) == 18


@pytest.mark.parametrize("workers", [1, 2])
def test_more_mailbox_concurrency_by_a_reload_holds_for_who_waits(
    tmp_path: Path, upstream: Upstream, workers: int
) -> None:
    """The administrator raises it since there is a queue, which must not go on as before until it is empty."""
    upstream.fault(kind="sendMail", hold=True, count=-1)
    config = config_for(upstream, workers=workers, mailbox_concurrency=1)
    with RelayProcess(tmp_path, config) as relay, ThreadPoolExecutor(6) as threads:
        clients = [one_at(relay, 1 + number % 2) if workers > 1 else relay.smtp() for number in range(6)]
        for client in clients:
            client.login(SENDER, "x")
        answers = [threads.submit(submit, client) for client in clients]
        wait_until(lambda: len(relay.events("smtp_reply", reply="354")) == 6, "all messages")
        wait_until(lambda: upstream.stats()["max_concurrent"].get(SENDER) == 1, "the only place to be taken")
        relay.write_config({**config, "mailbox_concurrency": 3})
        relay.signal(signal.SIGHUP)
        wait_until(lambda: upstream.stats()["max_concurrent"][SENDER] == 3, "three places to be taken")
        upstream.release()
        assert {answer.result() for answer in answers} == {"250 2.0.0"}
        assert upstream.stats()["max_concurrent"][SENDER] == 3
        for client in clients:
            client.quit()


def test_a_killed_worker_keeps_no_place_in_a_lane(tmp_path: Path, upstream: Upstream) -> None:
    with service(tmp_path, upstream) as relay, ThreadPoolExecutor(8) as threads:
        upstream.fault(kind="sendMail", hang=True, count=4)
        hanging = [one_at(relay, 1) for _ in range(4)]
        waiting = [one_at(relay, 2) for _ in range(4)]
        for client in (*hanging, *waiting):
            client.login(SENDER, "x")
        for client in hanging:
            start(client)
        wait_until(lambda: upstream.stats()["max_concurrent"].get(SENDER) == 4, "all places to be taken")
        answers = [threads.submit(submit, client) for client in waiting]
        kill(relay, 1)
        assert [answer.result() for answer in answers] == ["250 2.0.0"] * 4
        for client in (*hanging, *waiting):
            client.close()


def test_retry_after_holds_for_all_workers(tmp_path: Path, upstream: Upstream) -> None:
    with service(tmp_path, upstream, retry_attempts=1) as relay:
        clients = [one_at(relay, worker) for worker in (1, 2)]
        for client in clients:
            client.login(SENDER, "x")
        upstream.fault(kind="sendMail", status=429, retry_after="3000")
        assert submit(clients[0]) == "451 4.4.5"
        assert submit(clients[1]) == "451 4.4.5", "it does not even ask"
        assert sum(upstream.stats()["requests"]["sendMail"].values()) == 1
        for client in clients:
            client.quit()


def test_mailbox_rate_over_all_workers(tmp_path: Path, upstream: Upstream) -> None:
    with service(tmp_path, upstream, mailbox_rate="1/h") as relay:
        clients = [one_at(relay, worker) for worker in (1, 2)]
        for client in clients:
            client.login(SENDER, "x")
        assert [submit(client) for client in clients] == ["250 2.0.0", "451 4.4.5"]
        for client in clients:
            client.quit()


def test_max_inflight_bytes_over_all_workers(tmp_path: Path, upstream: Upstream) -> None:
    with service(tmp_path, upstream, max_inflight_bytes=1 << 20) as relay:
        first, second = one_at(relay, 1), one_at(relay, 2)
        for client in (first, second):
            client.login(SENDER, "x")
            client.mail(SENDER)
            client.rcpt(RECIPIENT)
        first.docmd("DATA")
        first.send(b"Subject: half\r\n\r\n" + b"x" * 70 * 10 + (b"x" * 70 + b"\r\n") * 13_000)
        kept = 900_000
        wait_until(lambda: in_flight(second, kept), "the octets to be counted")
        first.close()
        second.quit()


def in_flight(client: smtplib.SMTP, octets: int) -> bool:
    """Whether the rest of the budget is too small for that."""
    client.rset()
    code, text = client.mail(SENDER, [f"SIZE={octets}"])
    return (code, text.split()[0]) == (452, b"4.3.1")


# Re-sends


def hang_up(client: smtplib.SMTP, upstream: Upstream) -> None:
    """Send a message and close while Graph is being called, which answers after upstream.release()."""
    client.login(SENDER, "x")
    upstream.fault(kind="sendMail", hold=True)
    start(client)
    wait_until(lambda: upstream.stats()["max_concurrent"].get(SENDER), "the request")
    client.close()


@pytest.mark.parametrize("killed", [False, True])
def test_a_resend_to_another_worker(tmp_path: Path, upstream: Upstream, killed: bool) -> None:
    """Also when the worker that has delivered it is no more."""
    with service(tmp_path, upstream) as relay:
        hang_up(one_at(relay, 1), upstream)
        upstream.release()
        first = relay.wait_for("client_hung_up")["message_id"]
        if killed:
            kill(relay, 1)
        client = one_at(relay, 2)
        client.login(SENDER, "x")
        assert submit(client) == "250 2.0.0"
        assert relay.wait_for("delivered", resend_of=first)["worker"] == 2
        assert len(upstream.messages()) == 1
        assert submit(client) == "250 2.0.0"  # it was answered: this one is meant
        assert len(upstream.messages()) == 2
        client.quit()


def test_a_resend_while_the_first_is_on_its_way_on_another_worker(tmp_path: Path, upstream: Upstream) -> None:
    with service(tmp_path, upstream) as relay, ThreadPoolExecutor(1) as threads:
        client = one_at(relay, 2)
        client.login(SENDER, "x")
        hang_up(one_at(relay, 1), upstream)
        resend = threads.submit(submit, client)
        relay.wait_for("smtp_reply", worker=2, reply="354")
        upstream.release()
        assert resend.result() == "250 2.0.0"
        (first,) = relay.events("delivered", worker=1)
        assert relay.wait_for("delivered", worker=2)["resend_of"] == first["message_id"]
        assert len(upstream.messages()) == 1
        client.quit()


def test_the_same_message_on_purpose_on_two_workers(tmp_path: Path, upstream: Upstream) -> None:
    with service(tmp_path, upstream) as relay, ThreadPoolExecutor(2) as threads:
        clients = [one_at(relay, worker) for worker in (1, 2)]
        for client in clients:
            client.login(SENDER, "x")
        upstream.fault(kind="sendMail", hold=True, count=2)
        answers = [threads.submit(submit, client) for client in clients]
        wait_until(lambda: upstream.stats()["max_concurrent"].get(SENDER) == 2, "both requests")
        upstream.release()
        assert [answer.result() for answer in answers] == ["250 2.0.0"] * 2
        assert len(upstream.messages()) == 2
        for client in clients:
            client.quit()


# Deaths


def test_kills_under_load(tmp_path: Path, upstream: Upstream) -> None:
    """What got 250 has arrived, and once; whoever was cut off sends again, to a service that is there."""
    upstream.fault(kind="sendMail", delay_s=0.01, count=-1)
    answered: list[str] = []
    cut_off: set[str] = set()
    over = threading.Event()

    def client(number: int) -> None:
        for count in itertools.count():
            subject = f"{number}-{count}"
            while subject not in answered:
                try:
                    with relay.smtp(f"user{number % 4}@example.com", "x") as connection:
                        if submit(connection, subject, f"user{number % 4}@example.com").startswith("250"):
                            answered.append(subject)
                except (OSError, smtplib.SMTPException):
                    cut_off.add(subject)
            if over.is_set():
                return

    with service(tmp_path, upstream) as relay, ThreadPoolExecutor(10) as threads:
        clients = [threads.submit(client, number) for number in range(10)]
        try:
            for worker in (1, 2, 1, 2):
                wait_for = len(answered) + 30
                wait_until(lambda n=wait_for: len(answered) >= n, "mail to flow", 60)  # type: ignore[misc]
                kill(relay, worker)
            wait_for = len(answered) + 30
            wait_until(lambda: len(answered) >= wait_for, "mail to flow", 60)
        finally:
            over.set()
            for one in clients:
                one.result(60)
        assert len(relay.events("worker_ended")) == 4
        with ExitStack() as stack:
            for _ in range(100):  # no place has leaked
                wait_until(lambda: is_admitted(relay, stack), "all places to be free")
            assert not is_admitted(relay, stack)
        arrived = Counter(message["message"]["subject"] for message in upstream.messages())
    assert set(answered) <= set(arrived)
    twice = {subject for subject, times in arrived.items() if times > 1}
    assert twice <= cut_off, "a message that nobody was cut off from went twice"


def test_a_worker_that_dies_again_and_again(tmp_path: Path, upstream: Upstream) -> None:
    """It is replaced later each time; the other one goes on."""
    with service(tmp_path, upstream) as relay:
        for _ in range(3):
            kill(relay, 1)
        ended = relay.events("worker_ended")
        assert [line["delay_s"] for line in ended] == [0.0, 1.0, 2.0]
        assert {line["worker"] for line in ended} == {1}
        assert {line["level"] for line in ended} == {"error"}
        assert "SIGKILL" in ended[0]["reason"]
        client = one_at(relay, 2)
        client.login(SENDER, "x")
        assert submit(client) == "250 2.0.0"
        client.quit()


def test_the_desk_dies(tmp_path: Path, upstream: Upstream) -> None:
    with service(tmp_path, upstream, admin_addr="127.0.0.1:0") as relay:
        desk = set(children(relay.process.pid)) - set(pids(relay).values())
        assert len(desk) == 1
        os.kill(desk.pop(), signal.SIGKILL)
        assert "admin page" in relay.wait_for("worker_ended")["reason"]
        with relay.smtp(SENDER, "x") as client:
            assert submit(client) == "250 2.0.0"
        wait_until(lambda: metric(address(relay), "messages_total", result="delivered") == 1, "it to be back")


def test_the_parent_dies(tmp_path: Path, upstream: Upstream) -> None:
    """The workers finish what they have and end, or nobody could listen there again."""
    with service(tmp_path, upstream) as relay:
        client = one_at(relay, 1)
        client.login(SENDER, "x")
        upstream.fault(kind="sendMail", hold=True)
        start(client)
        wait_until(lambda: upstream.stats()["max_concurrent"].get(SENDER), "the request")
        relay.process.kill()
        relay.process.wait()
        wait_until(lambda: all(relay.events("parent_gone", worker=worker) for worker in (1, 2)), "both to notice")
        upstream.release()
        assert client.getreply()[0] == 250
        assert client.getreply()[0] == 421
        client.close()
        wait_until(lambda: not any(is_running(pid) for pid in pids(relay).values()), "the workers to end")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((relay.host, relay.port))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# Signals


def test_reload(tmp_path: Path, upstream: Upstream) -> None:
    config = config_for(upstream, workers=2, secret_expires="2020-01-01")
    with RelayProcess(tmp_path, config) as relay:
        old = {worker: one_at(relay, worker) for worker in (1, 2)}
        relay.write_config({**config, "max_message_size": 12345, "workers": 3})
        relay.signal(signal.SIGHUP)
        relay.wait_for("reloaded")
        assert "workers" in relay.wait_for("restart_needed")["reason"]
        for worker, client in old.items():
            client.ehlo()
            assert client.esmtp_features["size"] == "26214400"  # a session ends with what it began with
            client.quit()
            new = one_at(relay, worker)
            assert new.esmtp_features["size"] == "12345"
            new.quit()
        kill(relay, 1)
        new = one_at(relay, 1)
        assert new.esmtp_features["size"] == "12345", "a worker that starts has the newest configuration"
        new.quit()

        relay.write_config({**config, "max_message_size": "large", "dance": 1})
        relay.signal(signal.SIGHUP)
        wait_until(lambda: len(relay.events("reload_failed")) == 2, "both faults")
        kill(relay, 2)
        for worker in (1, 2):
            new = one_at(relay, worker)
            assert new.esmtp_features["size"] == "12345"
            new.login(SENDER, "x")
            assert submit(new) == "250 2.0.0"
            new.quit()
        assert len(relay.events("reload_failed")) == 2, "said once"
        assert len(relay.events("reloaded")) == 1
        wait_until(lambda: len(relay.events("secret_expires")) == 2, "a warning at the start and at the reload")
        relay.assert_sound()


def test_reload_opens_the_log_file_anew_in_all_workers(tmp_path: Path, upstream: Upstream) -> None:
    log = tmp_path / "relay.log"
    with RelayProcess(tmp_path, config_for(upstream, workers=2, log=str(log))) as relay:
        for faulty in (False, True):
            if faulty:
                relay.write_config({"dance": 1})
            log.rename(tmp_path / f"relay.log.{faulty}")
            relay._lines, relay._read_to = [], 0
            relay.signal(signal.SIGHUP)
            relay.wait_for("reload_failed" if faulty else "reloaded")
            wait_until(lambda: all(in_new_log(relay, worker) for worker in (1, 2)), "both workers to write there")
        assert relay.stdout_file.read_text() == relay.stderr == ""


def in_new_log(relay: RelayProcess, worker: int) -> bool:
    with relay.smtp():
        return bool(relay.events("smtp_command", worker=worker))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain(tmp_path: Path, upstream: Upstream, number: signal.Signals) -> None:
    with (
        service(tmp_path, upstream, shutdown_timeout=20, admin_addr="127.0.0.1:0") as relay,
        ThreadPoolExecutor(2) as threads,
    ):
        idle = [one_at(relay, worker) for worker in (1, 2)]
        busy = [one_at(relay, worker) for worker in (1, 2)]
        for client in busy:
            client.login(SENDER, "x")
        upstream.fault(kind="sendMail", hold=True, count=2)
        answers = [threads.submit(submit, client) for client in busy]
        wait_until(lambda: upstream.stats()["max_concurrent"].get(SENDER) == 2, "the requests in flight")
        relay.signal(number)
        for client in idle:
            code, text = client.getreply()
            assert (code, text.split()[0]) == (421, b"4.3.2")
            client.close()
        upstream.release()
        assert [answer.result() for answer in answers] == ["250 2.0.0"] * 2
        for client in busy:
            code, text = client.getreply()
            assert (code, text.split()[0]) == (421, b"4.3.2")
            client.close()
        assert relay.wait() == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((relay.host, relay.port))
        events = [line["event"] for line in relay.log()]
        assert events.count("stopping") == events.count("stopped") == 1
        assert events[-1] == "stopped"
        assert relay.stderr == ""
    assert len(upstream.messages()) == 2


def test_a_stop_of_all_processes_at_once(tmp_path: Path, upstream: Upstream) -> None:
    """As systemd and a terminal do it: every process hears the signal. Nobody is started again."""
    with service(tmp_path, upstream) as relay:
        everybody = [relay.process.pid, *children(relay.process.pid)]
        for pid in everybody:
            os.kill(pid, signal.SIGTERM)
        assert relay.wait() == 0
        assert not any(is_running(pid) for pid in everybody)


# One service


def test_one_admin_page(tmp_path: Path, upstream: Upstream) -> None:
    with service(tmp_path, upstream, admin_addr="127.0.0.1:0", retry_attempts=1) as relay:
        where = address(relay)
        clients = {worker: one_at(relay, worker) for worker in (1, 2)}
        for worker, client in clients.items():
            client.login(SENDER, "x")
            for _ in range(worker):
                assert submit(client) == "250 2.0.0"
        upstream.fault(kind="sendMail", status=503)
        assert submit(clients[2]) == "451 4.4.1"
        for result, count in (("deferred", 1), ("delivered", 3)):  # each worker's report comes for itself
            wait_until(lambda r=result, n=count: metric(where, "messages_total", result=r) == n, "the reports")  # type: ignore[misc]
        assert [metric(where, "worker_messages_total", worker=str(worker)) for worker in (1, 2)] == [1, 3]
        assert [metric(where, "worker_connections", worker=str(worker)) for worker in (1, 2)] == [1, 1]
        assert [metric(where, "worker_up", worker=str(worker)) for worker in (1, 2)] == [1, 1]
        assert metric(where, "worker_process_resident_memory_bytes", worker="1") > 1e6
        assert metric(where, "connections") == 2
        wait_until(lambda: metric(where, "tokens") == 2, "a token in each worker")
        page = get(where)[1]
        ids = [line["message_id"] for line in relay.events("delivered", "deferred")]
        assert page.count("<tr class=") >= 4
        assert all(get(where, f"/?q={message_id}")[1].count('data-name="result"') == 1 for message_id in ids)
        assert "of 2; restarts: 0" in page
        assert get(where, "/healthz")[0] == 200
        for client in clients.values():
            client.quit()
        kill(relay, 1)
        wait_until(lambda: metric(where, "worker_restarts_total", worker="1") == 1, "the restart to be counted")
        assert metric(where, "messages_total", result="delivered") == 3


def test_readiness_is_the_services(tmp_path: Path, upstream: Upstream) -> None:
    with service(tmp_path, upstream, admin_addr="127.0.0.1:0") as relay:
        where = address(relay)
        wait_until(lambda: get(where, "/readyz")[0] == 200, "the service to be ready")
        with relay.smtp(SENDER, "x") as client:
            upstream.fault(kind="sendMail", status=503, count=3)
            assert submit(client) == "451 4.4.1"
        wait_until(lambda: get(where, "/readyz")[0] == 503, "a worker's finding to arrive")


def test_socket_activation(tmp_path: Path, upstream: Upstream) -> None:
    config_file = tmp_path / "config.yaml"
    config_file.write_text(yaml.safe_dump(config_for(upstream, workers=2, listen_addr="127.0.0.1:1")))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(10)
        where = listener.getsockname()
        for _ in range(2):
            with socket.create_connection(where, PATIENCE_S) as early, activated(config_file, listener):
                assert early.recv(100).startswith(b"220 ")
                with socket.create_connection(where, PATIENCE_S) as later:
                    assert later.recv(100).startswith(b"220 ")


def test_notify(tmp_path: Path, upstream: Upstream) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        config = config_for(upstream, workers=2)
        with RelayProcess(tmp_path / "relay", config, env={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as relay:
            assert f"STATUS=listening on {relay.host}:{relay.port}" in told(manager, "READY=1")
            for text in (yaml.safe_dump(config), "nonsense: 1\n"):
                relay.config_file.write_text(text)
                relay.signal(signal.SIGHUP)
                assert "MONOTONIC_USEC=" in told(manager, "RELOADING=1")
                told(manager, "READY=1")
            relay.signal(signal.SIGTERM)
            told(manager, "STOPPING=1")
            assert relay.wait() == 0


def test_watchdog(tmp_path: Path, upstream: Upstream) -> None:
    """systemd hears of the parent, and the parent replaces a worker that hangs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "8000000"}
        with RelayProcess(tmp_path / "relay", config_for(upstream, workers=2), env=env) as relay:
            told(manager, "WATCHDOG=1")
            before = len(relay.events("worker_started", worker=1))
            os.kill(pids(relay)[1], signal.SIGSTOP)
            wait_until(lambda: len(relay.events("worker_started", worker=1)) > before, "another one", 120)
            assert "hung" in relay.events("worker_killed", worker=1)[0]["reason"]
            told(manager, "WATCHDOG=1")


def test_check_takes_it(tmp_path: Path, upstream: Upstream) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config_for(upstream, workers="auto")))
    assert run_once("check", "--config", tmp_path / "config.yaml").returncode == 0
