# SPDX-License-Identifier: MIT
"""The figures that have a target: how each is called, its unit and its limit; and the peers. Measures nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. ratio_of: the two figures whose quotient it is, else it is measured."""

    name: str
    title: str
    unit: str
    limit: float
    at_least: bool = False
    ratio_of: tuple[str, str] | None = None

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


PEERS = {
    "aiosmtpd": "aiosmtpd with requests.post in threads",
    "gevent": "gevent, email and requests.Session without anything of ours",
}
"""What each peer_*.py is."""

FIGURES = (
    Figure("2k_new_json.cpu_ms", "2 KiB, JSON, new connection each: CPU", "ms", 0.60),
    Figure("2k_new_mime.cpu_ms", "2 KiB, MIME, new connection each: CPU", "ms", 0.60),
    Figure("2k_kept_json.cpu_ms", "2 KiB, JSON, kept connections: CPU", "ms", 0.50),
    Figure("2k_kept_mime.cpu_ms", "2 KiB, MIME, kept connections: CPU", "ms", 0.50),
    Figure(
        "tls_ratio",
        "the same over TLS 1.3, resumed: CPU",
        "x plain",
        1.6,
        ratio_of=("2k_new_tls.cpu_ms", "2k_new_json.cpu_ms"),
    ),
    Figure(
        "tls_12_ratio",
        "the same over TLS 1.2, resumed: CPU",
        "x plain",
        1.6,
        ratio_of=("2k_new_tls_12.cpu_ms", "2k_new_json.cpu_ms"),
    ),
    Figure(
        "workers_ratio",
        "two workers, 50 connections: throughput",
        "x one",
        1.8,
        at_least=True,
        ratio_of=("2k_new_json_50_two_workers.per_second", "2k_new_json_50.per_second"),
    ),
    Figure("2k_new_json_100_late.share", "upstream 200 ms, 100 connections: of 500/s", "%", 98, at_least=True),
    Figure("2k_new_json_100_late.p99_ms", "upstream 200 ms, 100 connections: p99", "ms", 230),
    Figure("1m_mime.cpu_ms", "1 MiB, MIME: CPU", "ms", 6),
    Figure("1m_json.cpu_ms", "1 MiB, JSON: CPU", "ms", 10),
    Figure("20m_uploads.cpu_ms", "20 MiB, upload sessions: CPU", "ms", 150),
    Figure("one_25m.peak_mib", "RSS peak above idle, one of 25 MiB", "MiB", 40),
    Figure("four_20m.peak_mib", "RSS peak above idle, four of 20 MiB", "MiB", 80),
    Figure("twenty_25m.peak_mib", "RSS peak above idle, twenty of 25 MiB", "MiB", 250),
    Figure("fifty_20m.peak_mib", "RSS peak above idle, fifty of 20 MiB", "MiB", 300),
    Figure("beside_large.p99_ms", "p99 of 2 KiB beside four of 20 MiB", "ms", 100),
    Figure("beside_large.p99_ratio", "the same, to the p99 without them", "x", 3),
    Figure("beside_large.noop_p99_ms", "NOOP beside four of 20 MiB: p99", "ms", 20),
    Figure("idle_mib", "RSS idle", "MiB", 45),
    Figure("idle_plain_kib", "a further idle connection, plain", "KiB", 30),
    Figure("idle_tls_kib", "a further idle connection, TLS", "KiB", 80),
    Figure("many_idle_served", "10,000 idle connections, then 1,000 messages", "served", 1000, at_least=True),
    Figure("first_220_s", "exec to first 220", "s", 0.4),
    Figure("throttled.refused", "four at a time a mailbox: answers of 429", "%", 0),
    Figure("throttled.share", "four at a time a mailbox: of what is possible", "%", 95, at_least=True),
)
