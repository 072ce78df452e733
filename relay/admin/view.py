# SPDX-License-Identifier: MIT
"""What the page shows, as plain data: for the HTML (page.py) and for /state.json (admin.js) alike. Text, unescaped."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from relay import __version__
from relay.admin.live import Live
from relay.stats import RESULTS, MessageRecord, Problem, Stats

CHART_MINUTES = 180
CHART_HEIGHT = 60
MESSAGE_COLUMNS = (
    "time",
    "client",
    "user",
    "sender",
    "recipients",
    "size",
    "form",
    "tries",
    "seconds",
    "result",
    "advice",
)
PROBLEM_COLUMNS = ("last", "times", "event", "code", "who", "advice")


def view(stats: Stats, live: Live, words: str = "", result: str = "") -> dict[str, Any]:
    """All of it. words, result: which messages are wanted."""
    troubles = stats.troubles()
    return {
        "state": "degraded" if troubles else "healthy",
        "troubles": troubles,
        "figures": figures(stats, live),
        "chart": chart(stats),
        "messages": [message_row(one) for one in reversed(stats.messages) if is_wanted(one, words, result)],
        "problems": [problem_row(one) for one in stats.problems()],
        "mails": [mail_row(mail) for mail in live.mails()] if live.mails else None,
    }


def figures(stats: Stats, live: Live) -> list[tuple[str, str, str]]:
    """Label, value and a note for each of the numbers at the top."""
    counted = {result: sum(n for (known, _), n in stats.by_reply.items() if known == result) for result in RESULTS}
    graph, entra = stats.services["graph"], stats.services["entra"]
    age_s = stats.token_age_s()
    days = stats.secret_days_left()
    return [
        ("delivered", str(counted["delivered"]), f"since {_when(stats.started)}"),
        ("deferred", str(counted["deferred"]), "the client sends again"),
        ("rejected", str(counted["rejected"]), "the client was told no"),
        ("connections", str(live.connections()), f"of {live.max_connections()}"),
        ("in flight", size(live.inflight_bytes()), "octets of messages"),
        ("Graph latency", _latency(graph.recent_s), f"median; 95 %: {_latency(graph.recent_s, 95)}"),
        ("Entra ID latency", _latency(entra.recent_s), "median"),
        ("throttled", str(graph.statuses["429"]), f"answers 429; {duration(graph.waited_s)} waited in all"),
        ("tokens", str(live.tokens()), "none yet" if age_s is None else f"newest {duration(age_s)} old"),
        (
            "client secret",
            "unknown" if days is None else f"{days} days",
            "set secret_expires" if days is None else "left",
        ),
        *_workers(live),
        ("up", duration(stats.uptime_s()), f"version {__version__}"),
    ]


def _workers(live: Live) -> list[tuple[str, str, str]]:
    if live.workers is None:
        return []
    workers = live.workers()
    restarts = sum(worker.restarts for worker in workers)
    return [("workers", str(sum(worker.pid > 0 for worker in workers)), f"of {len(workers)}; restarts: {restarts}")]


def chart(stats: Stats) -> dict[str, Any]:
    """Messages a minute, as one SVG path for each result; x is a minute, y the share of the busiest one."""
    minutes = stats.minutes(CHART_MINUTES)
    peak = max(1, *(sum(counts.values()) for _, counts in minutes))
    paths = dict.fromkeys(RESULTS, "")
    for x, (_, counts) in enumerate(minutes):
        y = float(CHART_HEIGHT)
        for result in RESULTS:
            height = counts[result] * CHART_HEIGHT / peak
            if height:
                y -= height
                paths[result] += f"M{x} {y:.1f}h1v{height:.1f}h-1z"
    return {"paths": paths, "peak": peak, "from": f"{minutes[0][0]:%H:%M}", "to": f"{minutes[-1][0]:%H:%M}"}


def is_wanted(message: MessageRecord, words: str, result: str) -> bool:
    """Whether a message has this result and all of these words in its row."""
    if result in RESULTS and message.result != result:
        return False
    text = " ".join((*message_row(message), message.mailbox, message.message_id, message.session)).casefold()
    return all(word in text for word in words.casefold().split())


def message_row(message: MessageRecord) -> tuple[str, ...]:
    more = message.recipients - len(message.first_recipients)
    recipients = ", ".join(message.first_recipients) + (f" and {more} more" if more > 0 else "")
    return (
        _when(message.at),
        message.client,
        message.user or message.mailbox,
        message.sender or "<>",
        recipients,
        size(message.size_bytes),
        message.form,
        str(message.attempts),
        f"{message.duration_ms / 1000:.1f}",
        f"{message.result} {message.reply}",
        message.reason,
    )


def problem_row(problem: Problem) -> tuple[str, ...]:
    return (_when(problem.last), str(problem.times), problem.event, problem.code, problem.who, problem.advice)


def mail_row(mail: dict[str, object]) -> tuple[str, ...]:
    """The last of it is the mail's number."""
    return (str(mail["at"]), str(mail["from"]), str(mail["to"]), str(mail["subject"]), str(mail["number"]))


def size(octets: int) -> str:
    """In decimal units, short."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if octets >= factor:
            return f"{octets / factor:.1f} {unit}"
    return f"{octets} B"


def duration(seconds: float) -> str:
    """In the largest unit that gives at least two."""
    for unit, factor in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * factor:
            return f"{int(seconds // factor)} {unit}"
    return f"{int(seconds)} s"


def _latency(values: Sequence[float], percentile: int = 50) -> str:
    if not values:
        return "–"  # noqa: RUF001 - a dash
    found = values[0] if len(values) == 1 else statistics.quantiles(values, n=100, method="inclusive")[percentile - 1]
    return f"{found * 1000:.0f} ms" if found < 10 else f"{found:.0f} s"


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
