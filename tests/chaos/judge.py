# SPDX-License-Identifier: MIT
"""Whether a chaos run was in order: what each client was told against what has arrived, the logs, and what is left.

Knows no clock and starts nothing. A message may have arrived twice only for one of the reasons in docs/reliability.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.support.relay_process import RelayProcess

OWN_FAULTS = ("session_fault", "submission_fault", "janitor_task_failed", "worker_fault", "supervisor_fault")


@dataclass
class Stretch:
    """Something that happened to one relay, and from when until when, by the monotonic clock."""

    relay: int
    began: float
    ended: float = 0.0

    def meets(self, others: Iterable[Stretch]) -> bool:
        return any(
            self.relay == other.relay and self.began <= other.ended and other.began <= self.ended for other in others
        )


@dataclass
class Fate:
    """What became of one message, as its client saw it."""

    number: int
    mailbox: str
    large: int  # lines of its attachment, 0 for none
    hang_up_after_s: float | None  # the first try ends so
    code: int = 0
    hung_up: bool = False
    tries: list[Stretch] = field(default_factory=list)
    broken: list[Stretch] = field(default_factory=list)  # those whose connection broke without an answer

    @property
    def sender(self) -> str:
        return f"m{self.number}@chaos.example"

    def in_the_air(self, kills: list[Stretch]) -> bool:
        """It was on its way when the relay, or a worker, was killed."""
        return any(one.meets(kills) for one in self.broken)

    @property
    def over_a_restart(self) -> bool:
        """It came again to a relay that cannot know of the first try: the memory ends with the process."""
        return len({one.relay for one in self.tries}) > 1

    def forgotten(self, kills: list[Stretch]) -> bool:
        """Its client hung up, and what became of it was forgotten, with the process or with the worker."""
        all_tries = Stretch(self.tries[0].relay, self.tries[0].began, self.tries[-1].ended)
        return self.hung_up and (self.over_a_restart or all_tries.meets(kills))


@dataclass
class Traces:
    """What a run leaves for the judge."""

    relays: list[RelayProcess] = field(default_factory=list)
    restarts: int = 0
    kills: list[Stretch] = field(default_factory=list)
    arrivals: dict[int, list[str]] = field(default_factory=dict)  # by the message's number: when, and in which form
    memory_mb: list[float] = field(default_factory=list)  # of the relay of the moment, each tenth of the run
    open_files: list[int] = field(default_factory=list)
    drafts: set[int] = field(default_factory=set)  # of which messages there is one at the end
    left: list[str] = field(default_factory=list)  # files and processes


@dataclass
class Report:
    """What is wrong, and figures."""

    faults: list[str]
    figures: dict[str, object]


class _Logs:
    """Of all relays of the run."""

    def __init__(self, relays: list[RelayProcess]) -> None:
        self.lines = [line for relay in relays for line in relay.log()]
        self.senders = {line["message_id"]: line["sender"] for line in self.lines if "sender" in line}
        self.doubtful = {line["sender"] for line in self.lines if line.get("possible_duplicate") and "sender" in line}
        left = (line["message_id"] for line in self.lines if line["event"] == "draft_left_behind")
        self.left_drafts = {self.senders[message_id] for message_id in left if message_id in self.senders}

    def count(self, fact: str) -> int:
        return sum(fact in line for line in self.lines)

    def about(self, fate: Fate) -> str:
        """All that they know of it, for whoever has to find out."""
        its_own = (line for line in self.lines if self.senders.get(line.get("message_id", "")) == fate.sender)
        return "".join(f"\n      {line}" for line in its_own)


def judge(fates: list[Fate], traces: Traces, *, may_look: bool) -> Report:
    """may_look: the relay could look for each message of whose sending it was in doubt."""
    logs = _Logs(traces.relays)
    faults = [f"{line['event']}: {line.get('traceback')}" for line in logs.lines if line["event"] in OWN_FAULTS]
    faults += _of_processes(traces)
    twice: Counter[str] = Counter()
    for fate in fates:
        verdict = _verdict(fate, traces, logs, twice, may_look=may_look)
        arrived = traces.arrivals.get(fate.number, [])
        faults += [
            f"{fate.number}: {what}, hung up: {fate.hung_up}, arrived: {arrived}{logs.about(fate)}" for what in verdict
        ]
    in_the_air = sum(fate.in_the_air(traces.kills) for fate in fates)
    forgotten = sum(fate.forgotten(traces.kills) for fate in fates)
    figures: dict[str, Any] = {
        "restarts": traces.restarts,
        "kills": len(traces.kills),
        "messages": len(fates),
        "250": sum(fate.code == 250 for fate in fates),
        "5xx": sum(fate.code >= 500 for fate in fates),
        "5xx and arrived": sum(fate.code >= 500 and fate.number in traces.arrivals for fate in fates),
        "tries": sum(len(fate.tries) for fate in fates),
        "hung up": sum(fate.hung_up for fate in fates),
        "re-sends answered": logs.count("resend_of"),
        "found in Sent Items": logs.count("found_in_sent_items"),
        "possible duplicates": len(logs.doubtful),
        "in the air at a kill": in_the_air,
        "hung up before a restart or kill": forgotten,
        "arrived twice": sum(twice.values()),
        **{f"of these {reason}": number for reason, number in sorted(twice.items())},
        "drafts left": len(traces.drafts),
        "and said so": len(logs.left_drafts),
        "memory (MB)": traces.memory_mb,
        "open files": traces.open_files,
    }
    return Report(faults, figures)


def _verdict(fate: Fate, traces: Traces, logs: _Logs, twice: Counter[str], *, may_look: bool) -> list[str]:
    """What is wrong with one message. twice: how many came twice for which reason."""
    wrong = []
    count = len(traces.arrivals.get(fate.number, ()))
    in_the_air, forgotten = fate.in_the_air(traces.kills), fate.forgotten(traces.kills)
    doubt_forgotten = fate.sender in logs.doubtful and fate.over_a_restart
    in_doubt = fate.sender in logs.doubtful and not may_look
    if any(not one.meets(traces.kills) for one in fate.broken):
        wrong.append("a connection broke without a kill")
    if fate.code < 500 and fate.code != 250:
        wrong.append(f"not served in {len(fate.tries)} tries, last {fate.code}")
    if fate.code == 250 and count == 0:
        wrong.append("lost, although it got 250")
    if fate.code >= 500 and count and not in_the_air and not in_doubt and not doubt_forgotten:
        wrong.append(f"arrived, although it got {fate.code}")
    if fate.number in traces.drafts and not in_the_air and not forgotten and fate.sender not in logs.left_drafts:
        wrong.append("its draft is left, and no log says so")
    if count > 1:
        reasons = {
            "at a kill": in_the_air,
            "hung up before a restart or kill": forgotten,
            "in doubt at a restart or kill": doubt_forgotten,
            "called possible duplicates": in_doubt,
        }
        reason = next((reason for reason, holds in reasons.items() if holds), "")
        if reason:
            twice[reason] += 1
        else:
            wrong.append(f"arrived {count} times")
    return wrong


def _of_processes(traces: Traces) -> list[str]:
    wrong = [f"{what} is left" for what in traces.left]
    killed = {kill.relay for kill in traces.kills}
    for number, relay in enumerate(traces.relays):
        if relay.stderr:
            wrong.append(f"relay {number} wrote to standard error: {relay.stderr}")
        if relay.process.returncode != 0 and not (number in killed and relay.process.returncode == -9):
            wrong.append(f"relay {number} ended with {relay.process.returncode}")
    return wrong
