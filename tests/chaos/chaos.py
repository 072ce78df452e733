# SPDX-License-Identifier: MIT
"""make chaos: many clients, an upstream that fails in every way, a relay that is stopped and killed meanwhile.

Every message carries an id. At the end each one that got 250 has arrived; none has arrived twice, but for those that
the log calls possible_duplicate, and those on their way when the relay was killed or unanswered when it was restarted;
none that got 5xx has arrived; and every client was served (judge.py). What happens when is drawn from a seed, which is
printed: SEED=… repeats the schedule. With --soak the relay is neither restarted nor killed, and its memory is shown.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import select
import signal
import smtplib
import socket
import sys
import tempfile
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.chaos.judge import Fate, Report, Stretch, Traces, judge  # noqa: E402
from tests.support.relay_process import RelayProcess, config_for, wait_until  # noqa: E402
from tests.support.sandbox_client import Upstream  # noqa: E402

CLIENTS_OF_A_MAILBOX = 4  # as many as Graph takes at a time, so that all of them are busy
MOST_TRIES = 60
REPLY_S = 40.0  # more than submit_timeout
LINE = "x" * 70 + "\r\n"
LARGE_LINES = (*[1000] * 9, 45_000)  # a draft; one in ten an upload session too, and a temporary file of the relay
SEND_KINDS = ("sendMail", "send")
LARGE_KINDS = ("draft", "attachment")
UPLOAD_KINDS = ("uploadSession", "upload")

# weight, kinds, fault. With accept, the message goes out although the relay cannot know.
FAULTS: tuple[tuple[int, tuple[str, ...], dict[str, Any]], ...] = (
    (6, SEND_KINDS, {"status": 429}),
    (4, SEND_KINDS, {"status": 429, "retry_after": "1"}),
    (3, SEND_KINDS, {"status": 429, "code": "ApplicationThrottled"}),
    (2, SEND_KINDS, {"status": 429, "retry_after": "3"}),
    (6, SEND_KINDS, {"status": 503}),
    (2, SEND_KINDS, {"status": 503, "body": "html"}),
    (2, SEND_KINDS, {"status": 500}),
    (2, SEND_KINDS, {"status": 500, "accept": True}),
    (2, SEND_KINDS, {"status": 502}),
    (2, SEND_KINDS, {"status": 504, "accept": True}),
    (2, SEND_KINDS, {"reset": "before_body"}),
    (2, SEND_KINDS, {"reset": "after_body"}),
    (2, SEND_KINDS, {"reset": "after_body", "accept": True}),
    (1, SEND_KINDS, {"hang": True}),
    (1, SEND_KINDS, {"hang": True, "accept": True}),
    (6, SEND_KINDS, {"delay_s": 1.0}),
    (3, SEND_KINDS, {"status": 401}),
    (2, SEND_KINDS, {"status": 400}),
    (2, SEND_KINDS, {"status": 403, "code": "ErrorSendAsDenied"}),
    (2, SEND_KINDS, {"status": 413}),
    (2, LARGE_KINDS, {"status": 503}),
    (2, LARGE_KINDS, {"reset": "after_body"}),
    (2, LARGE_KINDS, {"status": 500, "accept": True}),
    (1, UPLOAD_KINDS, {"status": 503}),
    (2, ("searchSent",), {"status": 503}),
    (2, ("token",), {"status": 503}),
    (1, ("token",), {"reset": "after_body"}),
)


@dataclass(frozen=True)
class Settings:
    """What is tried, and with what. By its number, a seed also decides what the relay may do about unclear answers."""

    seed: int
    messages: int
    clients: int
    workers: int
    soak: bool

    @property
    def mailboxes(self) -> int:
        return max(1, self.clients // CLIENTS_OF_A_MAILBOX)

    @property
    def copies(self) -> bool:
        """Whether they are kept in Sent Items, where the relay can look for a message."""
        return self.seed % 2 == 0

    @property
    def permissions(self) -> tuple[str, ...]:
        """Every third run with copies may not look at them."""
        return ("Mail.Send",) if self.seed % 6 == 4 else ("Mail.Send", "Mail.ReadWrite")

    @property
    def may_look(self) -> bool:
        return self.copies and len(self.permissions) > 1

    @property
    def ambiguous_outcome(self) -> str:
        return "give_up" if self.seed % 5 == 0 else "retry"

    def __str__(self) -> str:
        copies = "no copies" if not self.copies else "copies" if self.may_look else "copies without the right to look"
        workers = f"{self.workers} workers" if self.workers > 1 else "1 process"
        return (
            f"{self.messages} messages, {self.clients} clients, {self.mailboxes} mailboxes, {workers}, {copies}, "
            f"ambiguous_outcome: {self.ambiguous_outcome}"
        )


class Stage:
    """The upstream, the relay of the moment, and what is to happen at which message."""

    def __init__(self, settings: Settings, upstream: Upstream, directory: Path) -> None:
        self._draw = draw = random.Random(settings.seed)
        self._settings = settings
        self._upstream = upstream
        self._directory = directory
        self._lock = threading.Lock()
        self._config = config_for(
            upstream,
            workers=settings.workers,
            log_level="info",
            max_connections=4 * settings.clients,  # those that hung up count until their message has gone
            shutdown_timeout=40,
            submit_timeout=20,
            retry_attempts=3,
            retry_initial_delay=50,
            single_request_limit=65536,
            save_to_sent=settings.copies,
            ambiguous_outcome=settings.ambiguous_outcome,
        )
        messages = settings.messages
        self._faults = sorted(((draw.randrange(messages), draw_fault(draw)) for _ in range(messages // 3)), key=at)
        ends = [signal.SIGTERM, *[signal.SIGKILL] * settings.workers] * max(1, messages // 1000)
        self._ends = sorted(((draw.randrange(messages // 10, messages), end) for end in ends), key=at)
        if settings.soak:
            self._ends = []
        self._started = 0
        self._arrived = 0
        self.traces = Traces()
        self._start()

    def began(self) -> None:
        """A client begins with a message: whatever is due by now happens."""
        with self._lock:
            self._started += 1
            while self._faults and self._faults[0][0] < self._started:
                self._upstream.fault(**self._faults.pop(0)[1])
            while self._ends and self._ends[0][0] < self._started:
                self._end(self._ends.pop(0)[1])
            if self._started % max(1, self._settings.messages // 10) == 0:
                self._look()

    def address(self) -> tuple[int, str, int]:
        """Number, host and port of the relay that runs now."""
        number = len(self.traces.relays) - 1  # a new one may come while we look
        relay = self.traces.relays[number]
        return number, relay.host, relay.port

    def close(self) -> None:
        """Stop what runs, when all clients are done, and look at what is left behind."""
        try:
            self._look()
        finally:
            for relay in self.traces.relays:
                relay.stop()
        self.traces.drafts = {int(draft["subject"]) for draft in self._upstream.drafts()}
        with suppress(AssertionError):
            wait_until(lambda: not heirs_of(self._temporary), "the end of all their processes")
        self.traces.left = [str(path) for path in self._temporary.iterdir()]
        self.traces.left += [f"process {pid}" for pid in heirs_of(self._temporary)]

    @property
    def _temporary(self) -> Path:
        return self._directory / "temporary"

    def _start(self) -> None:
        self._temporary.mkdir(exist_ok=True)
        directory = self._directory / f"relay-{len(self.traces.relays)}"
        relay = RelayProcess(directory, self._config, env={"TMPDIR": str(self._temporary)})
        relay.__enter__()
        self.traces.relays.append(relay)

    def _end(self, number: signal.Signals) -> None:
        place, old = len(self.traces.relays) - 1, self.traces.relays[-1]
        workers = [line["pid"] for line in old.events("worker_started")]
        began = time.monotonic()
        if number is signal.SIGKILL and workers:  # one of them, and the service goes on
            pid = self._draw.choice([pid for pid in workers if is_alive(pid)])
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(pid), "the worker's death")
            self.traces.kills.append(Stretch(place, began, time.monotonic()))
        elif number is signal.SIGKILL:
            old.signal(number)
            old.wait()
            self.traces.kills.append(Stretch(place, began, time.monotonic()))
            self._start()
        else:  # the new one starts while the old one finishes
            self._start()
            old.signal(number)
            self.traces.restarts += 1

    def _look(self) -> None:
        """Take what has arrived since, before the sandbox forgets it, and the measure of the relay."""
        new = self._upstream.messages(after=self._arrived)
        self._arrived += len(new)
        for message in new:
            text = b64decode(message["mime"]).decode() if message["mime"] else message["message"]["body"]["content"]
            number = int(re.findall(r"id=(\d+);", text)[0])
            self.traces.arrivals.setdefault(number, []).append(f"{message['form']} {message['received_at']}")
        relay = self.traces.relays[-1]
        pids = [line["pid"] for line in relay.events("worker_started")] or [relay.process.pid]
        self.traces.memory_mb.append(sum(memory_mb(pid) for pid in pids if is_alive(pid)))
        self.traces.open_files.append(sum(open_files(pid) for pid in pids if is_alive(pid)))


def is_alive(pid: int) -> bool:
    """Whether it still runs; a process that nobody has waited for yet does not (proc(5), stat)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def heirs_of(temporary: Path) -> list[int]:
    """The processes that were given this directory for their temporary files: a relay, or whatever it has started."""
    wanted = f"TMPDIR={temporary}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended, or is not ours to look at
            if wanted in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return round(int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024, 1)


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def at(event: tuple[int, Any]) -> int:
    return event[0]


def draw_fault(draw: random.Random) -> dict[str, Any]:
    (_, kinds, fault) = draw.choices(FAULTS, [weight for weight, _, _ in FAULTS])[0]
    return {"kind": draw.choice(kinds), **fault}


def content_of(fate: Fate) -> bytes:
    """The mail data, the same for each try, dots stuffed and ended."""
    head = f"From: {fate.mailbox}\r\nTo: you@example.org\r\nSubject: {fate.number}\r\n"
    text = f"id={fate.number};\r\n"
    if not fate.large:
        return f"{head}\r\n{text}.\r\n".encode()
    head += 'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n'
    attached = f"Content-Disposition: attachment; filename=a.txt\r\n\r\n{LINE * fate.large}"
    return f"{head}\r\n--b\r\n\r\n{text}\r\n--b\r\n{attached}\r\n--b--\r\n.\r\n".encode()


class Client:
    """One SMTP client that sends one message after the other, each until it is told the outcome.

    fates: those that are still to come, for all clients: whoever is done with one takes the next.
    """

    def __init__(self, seed: int, stage: Stage, fates: Iterator[Fate]) -> None:
        self._draw = random.Random(seed)
        self._stage = stage
        self._fates = fates

    def run(self) -> None:
        for fate in self._fates:
            self._stage.began()
            while not (fate.code == 250 or fate.code >= 500) and len(fate.tries) < MOST_TRIES:
                relay, host, port = self._stage.address()
                one = Stretch(relay, time.monotonic())
                fate.tries.append(one)
                fate.code = self._try(fate, host, port)
                one.ended = time.monotonic()
                if fate.code != 250:  # at first soon, then as long as a relay may take to start on a busy machine
                    time.sleep(self._draw.uniform(0.02, 0.3) * min(len(fate.tries), 10))

    def _try(self, fate: Fate, host: str, port: int) -> int:
        """The code, 0 where no answer came."""
        client = smtplib.SMTP(local_hostname="chaos.example", timeout=REPLY_S)
        in_data = False
        try:
            client.connect(host, port)
            client.ehlo()
            code, _ = client.docmd("AUTH", "PLAIN " + plain(fate.mailbox))
            if code == 235:
                code, _ = client.mail(fate.sender)
            if code == 250:
                code, _ = client.rcpt("you@example.org")
            if code == 250:
                code, _ = client.docmd("DATA")
            if code != 354:
                return code if code < 500 else 400  # not the message's own outcome
            in_data = True
            client.send(content_of(fate))
            if fate.hang_up_after_s is not None and len(fate.tries) == 1 and self._hangs_up(client, fate):
                return 0
            return client.getreply()[0]
        except (OSError, smtplib.SMTPException):
            if in_data:
                fate.broken.append(fate.tries[-1])
            return 0
        finally:
            client.close()

    def _hangs_up(self, client: smtplib.SMTP, fate: Fate) -> bool:
        """Close without a word, but only where no answer has come by then."""
        if select.select([client.sock], [], [], fate.hang_up_after_s)[0]:
            return False
        client.sock.shutdown(socket.SHUT_WR)
        if select.select([client.sock], [], [], 0)[0]:  # it came in the very last moment, and counts as heard
            return False
        fate.hung_up = True
        client.close()
        return True


def plain(user: str) -> str:
    return smtplib.encode_base64(f"\0{user}\0password".encode(), eol="")


def run(settings: Settings) -> Report:
    draw = random.Random(settings.seed)
    fates = [
        Fate(
            number,
            f"box{number % settings.mailboxes}@chaos.example",
            large=draw.choice(LARGE_LINES) if draw.random() < 0.04 else 0,
            hang_up_after_s=draw.choice((0.0, 0.01, 0.2)) if draw.random() < 0.15 else None,
        )
        for number in range(settings.messages)
    ]
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as directory,
        Upstream(Path(directory), permissions=list(settings.permissions)) as upstream,
    ):
        stage = Stage(settings, upstream, Path(directory))
        count = settings.clients
        try:
            with ThreadPoolExecutor(count) as threads:
                to_come = iter(fates)  # of a list: threads may share it
                crews = [Client(settings.seed * 1000 + n, stage, to_come) for n in range(count)]
                for crew in [threads.submit(crew.run) for crew in crews]:
                    crew.result()
        finally:
            stage.close()
        return judge(fates, stage.traces, may_look=settings.may_look)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="repeats the schedule of an earlier run")
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--runs", type=int, default=1, help="with this seed and the next ones")
    parser.add_argument("--workers", type=int, default=1, help="of the relay; with several, workers are killed")
    parser.add_argument("--soak", action="store_true", help="neither restart nor kill the relay, and show its memory")
    parser.add_argument("--short", action="store_true", help="a small run, for CI")
    options = parser.parse_args()
    if options.short:
        options.messages, options.clients = 250, 25
    first = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    wrong = 0
    for seed in range(first, first + options.runs):
        start = time.monotonic()
        settings = Settings(seed, options.messages, options.clients, options.workers, options.soak)
        print(f"SEED={seed}: {settings}", flush=True)
        report = run(settings)
        figures = ", ".join(f"{name}: {figure}" for name, figure in report.figures.items())
        print(f"  {figures}; {time.monotonic() - start:.0f} s", flush=True)
        for fault in report.faults:
            print(f"  WRONG {fault}", flush=True)
        wrong += len(report.faults)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
