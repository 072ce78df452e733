# SPDX-License-Identifier: MIT
"""Alert rules and dashboard: right for Prometheus' own tools, and about metrics that the relay has."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.admin.live import Live
from relay.admin.metrics import Metrics
from relay.stats import Stats
from tests.support.clock import FakeClock
from tests.support.needed import need
from tests.support.relay_process import CHECKOUT

PROMETHEUS = CHECKOUT / "packaging" / "prometheus"
RULES = PROMETHEUS / "graph-smtp-relay.rules.yml"
DASHBOARD = json.loads((CHECKOUT / "packaging" / "grafana" / "graph-smtp-relay.json").read_text("utf-8"))


def promtool(*arguments: str | Path, text: bytes = b"") -> None:
    need("promtool", "prometheus")
    ended = subprocess.run(["promtool", *map(str, arguments)], input=text, capture_output=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout.decode() + ended.stderr.decode()
    assert b"lint" not in ended.stderr.lower(), ended.stderr


def metrics() -> bytes:
    """All of them: of a relay to which everything has happened."""
    stats = Stats(FakeClock())
    stats.secret_expires = date(2027, 1, 31)
    facts = {"size_bytes": 1000, "reply": "550 5.7.60", "recipients": 1}
    for result in ("delivered", "deferred", "rejected"):
        stats.message(result, facts)  # type: ignore[arg-type]
    for service in ("graph", "entra"):
        stats.upstream(service, 202, 0.1)
    stats.token_fetched()
    return Metrics(stats, Live(lambda: 1, lambda: 100, lambda: 1000, lambda: 1)).render()


def expressions() -> Iterator[tuple[str, str]]:
    """Where it stands, and the expression."""
    for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"].replace("$instance", ".*")


def test_metrics_are_as_prometheus_wants_them() -> None:
    """Names, units, help texts: promtool's lint has nothing to say."""
    promtool("check", "metrics", text=metrics())


def test_alert_rules_are_right() -> None:
    promtool("check", "rules", RULES)
    promtool("check", "config", PROMETHEUS / "scrape.yml")


def test_alerts_fire_where_they_should() -> None:
    promtool("test", "rules", CHECKOUT / "tests" / "data" / "prometheus" / "rules_test.yml")


def test_each_expression_can_be_read(tmp_path: Path) -> None:
    """The dashboard's too: as rules, which is what promtool reads."""
    rules = [{"record": f"test:{number}", "expr": expression} for number, (_, expression) in enumerate(expressions())]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "test", "rules": rules}]}))
    promtool("check", "rules", tmp_path / "rules.yml")


def test_each_metric_is_there() -> None:
    known = set(re.findall(rb"^([a-z_0-9]+)[ {]", metrics(), re.MULTILINE))
    for where, expression in expressions():
        for name in re.findall(r"\b(?:graph_smtp_relay|process)_[a-z_]+", expression):
            assert name.encode() in known, f"{where}: {name}"


def test_each_label_is_there() -> None:
    """A misspelt label would be an alert that never fires."""
    known = {name.decode() for name in re.findall(rb'[{,]([a-z]+)="', metrics())} | {"instance", "job"}
    for where, expression in expressions():
        for name in re.findall(r'([a-z]+)(?:=|!=|=~|!~)"', expression):
            assert name in known, f"{where}: {name}"


def test_each_event_is_one_of_the_log() -> None:
    events = set(re.findall(r"[a-z_]+", (CHECKOUT / "docs" / "logging.md").read_text("utf-8")))
    for where, expression in expressions():
        for words in re.findall(r'event=~?"([^"]+)"', expression):
            assert set(words.split("|")) <= events, where


def test_the_dashboard_is_whole() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids) >= 15
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} overlaps another"
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, "chosen by who looks"


@pytest.mark.parametrize("name", ["admin_addr", "secret_expires", "mailbox_rate", "max_connections"])
def test_advice_names_keys_that_exist(name: str) -> None:
    rules: dict[str, Any] = yaml.safe_load(RULES.read_text("utf-8"))
    assert name in json.dumps(rules)
    assert f"### `{name}`" in (CHECKOUT / "docs" / "configuration.md").read_text("utf-8")
