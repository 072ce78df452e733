# SPDX-License-Identifier: MIT
"""make chaos: many clients, an upstream that fails in every way, a relay that is stopped and killed meanwhile.

Every message carries an id. At the end each one that got 250 has arrived; none has arrived twice, but for those that
the log calls possible_duplicate, and those on their way when the relay was killed or unanswered when it was restarted;
none that got 5xx has arrived; and every client was served. What happens when is drawn from a seed, which is printed:
SEED=… repeats the schedule.
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
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.support.relay_process import RelayProcess, config_for  # noqa: E402
from tests.support.sandbox_client import Upstream  # noqa: E402

MAILBOXES = 12
MOST_TRIES = 60
REPLY_S = 40.0  # more than submit_timeout
LINE = "x" * 70 + "\r\n"
SEND_KINDS = ("sendMail", "send")
LARGE_KINDS = ("draft", "attachment")

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
    (2, ("searchSent",), {"status": 503}),
    (2, ("token",), {"status": 503}),
    (1, ("token",), {"reset": "after_body"}),
)


@dataclass
class Fate:
    """What became of one message, as its client saw it."""

    number: int
    large: bool
    hang_up_after_s: float | None  # the first try ends so
    code: int = 0
    tries: int = 0
    lost: set[int] = field(default_factory=set)  # the relays whose connection broke without an answer
    hung_up: bool = False
    relays: set[int] = field(default_factory=set)  # it was sent to

    @property
    def forgotten(self) -> bool:
        """Its client hung up, and came again to a relay that cannot know: the memory ends with the process."""
        return self.hung_up and len(self.relays) > 1

    @property
    def sender(self) -> str:
        return f"m{self.number}@chaos.example"


class Stage:
    """The upstream, the relay of the moment, and what is to happen at which message."""

    def __init__(self, seed: int, messages: int, upstream: Upstream, directory: Path, workers: int) -> None:
        draw = random.Random(seed)
        self._draw = draw
        self._upstream = upstream
        self._directory = directory
        self._lock = threading.Lock()
        self._config = config_for(
            upstream,
            workers=workers,
            log_level="info",
            shutdown_timeout=40,
            submit_timeout=20,
            retry_attempts=3,
            retry_initial_delay=50,
            single_request_limit=65536,
            save_to_sent=seed % 2 == 0,  # every other run leaves copies in which the relay can look
            ambiguous_outcome="give_up" if seed % 5 == 0 else "retry",
        )
        self._faults = sorted(((draw.randrange(messages), draw_fault(draw)) for _ in range(messages // 3)), key=at)
        ends = [signal.SIGTERM, *[signal.SIGKILL] * workers] * max(1, messages // 1000)
        self._ends = sorted(((draw.randrange(messages // 10, messages), end) for end in ends), key=at)
        self._started = 0
        self.relays: list[RelayProcess] = []
        self.killed: set[int] = set()
        self._start()

    def began(self) -> None:
        """A client begins with a message: whatever is due by now happens."""
        with self._lock:
            self._started += 1
            while self._faults and self._faults[0][0] < self._started:
                self._upstream.fault(**self._faults.pop(0)[1])
            while self._ends and self._ends[0][0] < self._started:
                self._end(self._ends.pop(0)[1])

    def address(self) -> tuple[int, str, int]:
        """Number, host and port of the relay that runs now."""
        relay = self.relays[-1]
        return len(self.relays) - 1, relay.host, relay.port

    def close(self) -> None:
        self.relays[-1].stop()

    def _start(self) -> None:
        relay = RelayProcess(self._directory / f"relay-{len(self.relays)}", self._config)
        relay.__enter__()
        self.relays.append(relay)

    def _end(self, number: signal.Signals) -> None:
        old = self.relays[-1]
        workers = {line["worker"]: line["pid"] for line in old.events("worker_started")}
        if number is signal.SIGKILL and workers:  # one of them, and the service goes on
            self.killed.add(len(self.relays) - 1)
            os.kill(workers[self._draw.choice(sorted(workers))], signal.SIGKILL)
        elif number is signal.SIGKILL:
            self.killed.add(len(self.relays) - 1)
            old.signal(number)
            old.wait()
            self._start()
        else:  # the new one starts while the old one finishes
            self._start()
            old.signal(number)


def at(event: tuple[int, Any]) -> int:
    return event[0]


def draw_fault(draw: random.Random) -> dict[str, Any]:
    (_, kinds, fault) = draw.choices(FAULTS, [weight for weight, _, _ in FAULTS])[0]
    return {"kind": draw.choice(kinds), **fault}


def content_of(fate: Fate) -> bytes:
    """The mail data, the same for each try, dots stuffed and ended."""
    head = f"From: box{fate.number % MAILBOXES}@chaos.example\r\nTo: you@example.org\r\nSubject: chaos\r\n"
    text = f"id={fate.number};\r\n"
    if not fate.large:
        return f"{head}\r\n{text}.\r\n".encode()
    head += 'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n'
    attached = f"Content-Disposition: attachment; filename=a.txt\r\n\r\n{LINE * 1000}"
    return f"{head}\r\n--b\r\n\r\n{text}\r\n--b\r\n{attached}\r\n--b--\r\n.\r\n".encode()


class Client:
    """One SMTP client with some messages, one after the other; it sends each until it is told the outcome."""

    def __init__(self, seed: int, stage: Stage, fates: list[Fate]) -> None:
        self._draw = random.Random(seed)
        self._stage = stage
        self._fates = fates

    def run(self) -> None:
        for fate in self._fates:
            self._stage.began()
            while not (fate.code == 250 or fate.code >= 500) and fate.tries < MOST_TRIES:
                fate.tries += 1
                fate.code = self._try(fate)
                if fate.code != 250:
                    time.sleep(self._draw.uniform(0.02, 0.3))

    def _try(self, fate: Fate) -> int:
        """The code, 0 where no answer came."""
        relay, host, port = self._stage.address()
        fate.relays.add(relay)
        client = smtplib.SMTP(local_hostname="chaos.example", timeout=REPLY_S)
        in_data = False
        try:
            client.connect(host, port)
            client.ehlo()
            code, _ = client.docmd("AUTH", "PLAIN " + plain(f"box{fate.number % MAILBOXES}@chaos.example"))
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
            if fate.hang_up_after_s is not None and fate.tries == 1 and self._hangs_up(client, fate):
                return 0
            return client.getreply()[0]
        except (OSError, smtplib.SMTPException):
            if in_data:
                fate.lost.add(relay)
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


@dataclass
class Report:
    """What is wrong, and figures."""

    faults: list[str]
    figures: dict[str, object]


def judge(fates: list[Fate], stage: Stage, arrivals: Counter[int]) -> Report:  # noqa: C901 - one verdict after the other
    doubtful: set[str] = set()  # senders of messages that the log calls possible duplicates
    resends = found = 0
    faults: list[str] = []
    for relay in stage.relays:
        for line in relay.log():
            if line["event"] in ("session_fault", "submission_fault", "janitor_task_failed"):
                faults.append(f"{line['event']}: {line.get('traceback')}")
            if line.get("possible_duplicate") and "sender" in line:
                doubtful.add(line["sender"])
            resends += "resend_of" in line
            found += "found_in_sent_items" in line
    twice = 0

    def said(fate: Fate) -> str:
        """What the logs know of it, for whoever has to find out."""
        lines = [line for relay in stage.relays for line in relay.log() if line.get("sender") == fate.sender]
        ids = {line["message_id"] for line in lines}
        about = [line for relay in stage.relays for line in relay.log() if line.get("message_id") in ids]
        return "".join(f"\n      {line}" for line in about)

    for fate in fates:
        count = arrivals[fate.number]
        in_the_air = bool(fate.lost & stage.killed)
        if fate.lost - stage.killed:
            faults.append(f"{fate.number}: a connection broke without a kill")
        if fate.code == 0 or (fate.code < 500 and fate.code != 250):
            faults.append(f"{fate.number}: not served in {fate.tries} tries, last {fate.code}")
        if fate.code == 250 and count == 0:
            faults.append(f"{fate.number}: lost, although it got 250")
        if fate.code >= 500 and count and not in_the_air and fate.sender not in doubtful:
            faults.append(f"{fate.number}: arrived, although it got {fate.code}")
        if count > 1:
            twice += 1
            if not in_the_air and not fate.forgotten and fate.sender not in doubtful:
                faults.append(
                    f"{fate.number}: arrived {count} times, hung up: {fate.hung_up}, tries: {fate.tries}{said(fate)}"
                )
    return Report(
        faults,
        {
            "messages": len(fates),
            "250": sum(fate.code == 250 for fate in fates),
            "5xx": sum(fate.code >= 500 for fate in fates),
            "tries": sum(fate.tries for fate in fates),
            "hung up": sum(fate.hung_up for fate in fates),
            "re-sends answered": resends,
            "found in Sent Items": found,
            "possible duplicates": len(doubtful),
            "in the air at a kill": sum(bool(fate.lost & stage.killed) for fate in fates),
            "hung up before a restart": sum(fate.forgotten for fate in fates),
            "arrived twice": twice,
        },
    )


def run(seed: int, messages: int, clients: int, workers: int = 1) -> Report:
    draw = random.Random(seed)
    fates = [
        Fate(number, draw.random() < 0.04, draw.choice((0.0, 0.01, 0.2)) if draw.random() < 0.15 else None)
        for number in range(messages)
    ]
    permissions = ["Mail.Send", "Mail.ReadWrite"]
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as directory,
        Upstream(Path(directory), permissions=permissions) as upstream,
    ):
        stage = Stage(seed, messages, upstream, Path(directory), workers)
        try:
            with ThreadPoolExecutor(clients) as threads:
                crews = [Client(seed * 1000 + n, stage, fates[n::clients]) for n in range(clients)]
                for crew in [threads.submit(crew.run) for crew in crews]:
                    crew.result()
        finally:
            for relay in stage.relays:
                relay.stop()
        arrivals: Counter[int] = Counter()
        for message in upstream.messages():
            text = b64decode(message["mime"]).decode() if message["mime"] else message["message"]["body"]["content"]
            arrivals[int(re.findall(r"id=(\d+);", text)[0])] += 1
        return judge(fates, stage, arrivals)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="repeats the schedule of an earlier run")
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--runs", type=int, default=1, help="with this seed and the next ones")
    parser.add_argument("--workers", type=int, default=1, help="of the relay; with several, workers are killed")
    parser.add_argument("--short", action="store_true", help="a small run, for CI")
    options = parser.parse_args()
    if options.short:
        options.messages, options.clients = 250, 25
    first = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    wrong = 0
    for seed in range(first, first + options.runs):
        start = time.monotonic()
        print(f"SEED={seed}: {options.messages} messages, {options.clients} clients", flush=True)
        report = run(seed, options.messages, options.clients, options.workers)
        figures = ", ".join(f"{name}: {figure}" for name, figure in report.figures.items())
        print(f"  {figures}; {time.monotonic() - start:.0f} s", flush=True)
        for fault in report.faults:
            print(f"  WRONG {fault}", flush=True)
        wrong += len(report.faults)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
