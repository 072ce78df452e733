# SPDX-License-Identifier: MIT
"""The container's recipe, by a linter, and what it brings. Nothing is built: that needs a builder and its images."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import yaml

from relay.credentials import hash_password
from tests.support.bundle import tool
from tests.support.relay_process import CHECKOUT, RelayProcess, config_for, run_once
from tests.support.sandbox_client import Upstream

CONTAINER = CHECKOUT / "packaging" / "container"
RECIPE = (CONTAINER / "Containerfile").read_text("utf-8")


def test_the_linter_finds_nothing() -> None:
    ended = subprocess.run(
        [tool("hadolint"), str(CONTAINER / "Containerfile")], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_what_it_takes_from_the_checkout_can_be_read_by_that_user() -> None:
    """COPY keeps modes: those of a checkout made with umask 077 would keep the relay from its configuration."""
    final = RECIPE.rpartition("\nFROM ")[2]
    copied = re.findall(r"^COPY (?!--from)(.+)$", final, re.MULTILINE)
    assert copied
    assert [line for line in copied if not line.startswith("--chmod=644 ")] == []


def test_it_runs_as_an_ordinary_user() -> None:
    final = RECIPE.rpartition("\nFROM ")[2]
    (user,) = re.findall(r"^USER (\d+):\d+$", final, re.MULTILINE)
    assert int(user) > 0
    assert re.search(r"^HEALTHCHECK .*healthcheck\.py", final, re.MULTILINE)


def test_what_it_copies_is_there_and_not_left_out() -> None:
    """The .containerignore names what may be copied."""
    allowed = re.findall(r"^!(.+)$", (CHECKOUT / ".containerignore").read_text("utf-8"), re.MULTILINE)
    lines = re.findall(r"^COPY (?!--from)(?:--chmod=\d+ )?(.+) \S+$", RECIPE, re.MULTILINE)
    copied = [name for line in lines for name in line.split()]
    assert len(copied) > 5
    for name in copied:
        assert (CHECKOUT / name).exists()
        assert name.partition("/")[0] in allowed


def test_its_configuration_takes_its_values_from_environment_and_files(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    text = (CONTAINER / "config.yaml").read_text("utf-8").replace("/run/secrets", str(tmp_path))
    config.write_text(text)
    values = {"TENANT_ID": "t", "CLIENT_ID": "c", "SMTP_USERNAME": "scanner", "MAILBOX": "scanner@example.com"}
    ended = run_once("check", "--config", config, env=values)
    assert ended.returncode == 2
    assert "client_secret" in ended.stderr
    (tmp_path / "client_secret").write_text("secret\n")
    (tmp_path / "password_hash").write_text(hash_password("its password") + "\n")
    ended = run_once("check", "--config", config, env=values)
    assert (ended.returncode, ended.stderr) == (0, "")


def healthy(port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(CONTAINER / "healthcheck.py")],
        env={"HEALTHCHECK_PORT": str(port)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_health_check(tmp_path: Path) -> None:
    with Upstream(tmp_path) as upstream, RelayProcess(tmp_path / "relay", config_for(upstream)) as relay:
        assert healthy(relay.port).returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    ended = healthy(port)
    assert ended.returncode == 1
    assert f"port {port}: " in ended.stderr


def test_the_port_is_the_same_everywhere() -> None:
    config = yaml.safe_load((CONTAINER / "config.yaml").read_text("utf-8"))
    assert config["listen_addr"] == ":2526"
    assert "EXPOSE 2526" in RECIPE
