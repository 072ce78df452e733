# SPDX-License-Identifier: MIT
"""The systemd unit and the init script: as the templates say, hardened, and they do start, stop and reload."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from relay.serviceunit import NAME, ServiceFault, control
from tests.support.relay_process import CHECKOUT, PROGRAM, run_once, wait_until

SYSTEMD, SCRIPT = CHECKOUT / "packaging" / "systemd", CHECKOUT / "packaging" / "init.d" / NAME
CONFIG = {
    "listen_addr": "127.0.0.1:0",
    "oauth2_config": {"client_id": "a", "client_secret": "b", "tenant_id": "c"},
}


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    path = CHECKOUT / "packaging" / "make_service_files.py"
    spec = importlib.util.spec_from_file_location("make_service_files", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_shipped_files_are_up_to_date(maker: ModuleType) -> None:
    for path, text in maker.outputs().items():
        assert path.read_text("utf-8") == text, f"run packaging/make_service_files.py to renew {path.name}"
        assert not re.search(r"@[A-Z]+@", text)
    assert os.access(SCRIPT, os.X_OK)


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is missing (Debian package systemd)")
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_unit_is_verified(tmp_path: Path) -> None:
    for path in SYSTEMD.iterdir():
        text = path.read_text("utf-8").replace("/usr/bin/graph-smtp-relay", sys.executable)  # which is there
        (tmp_path / path.name).write_text(text)
    ended = analyze("verify", "--man=no", *sorted(tmp_path.iterdir()))
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_unit_is_hardened() -> None:
    ended = analyze("security", "--offline=true", "--threshold=15", SYSTEMD / f"{NAME}.service")
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr


# service install, below another root

CONFIG_FILE = Path("/etc/hostname")  # any file that is there, where a service can see it


@pytest.mark.parametrize("has_systemd", [True, False], ids=["systemd", "init"])
def test_install_and_uninstall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_systemd: bool) -> None:
    monkeypatch.setenv("GRAPH_SMTP_RELAY_ROOT", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    if has_systemd:
        (tmp_path / "run/systemd/system").mkdir(parents=True)
    target = tmp_path / ("etc/systemd/system/graph-smtp-relay.service" if has_systemd else f"etc/init.d/{NAME}")
    said: list[str] = []
    program = Path("/opt/relay/relay.py")
    with pytest.raises(ServiceFault, match="not installed"):
        control("start", program, CONFIG_FILE, said.append)
    assert control("install", program, CONFIG_FILE, said.append) == 0
    text = target.read_text("utf-8")
    assert "/usr/bin/python3 /opt/relay/relay.py" in text
    assert str(CONFIG_FILE) in text
    assert "@EXEC@" not in text
    assert os.access(target, os.X_OK) is not has_systemd
    assert control("uninstall", program, CONFIG_FILE, said.append) == 0
    assert not target.exists()
    assert control("uninstall", program, CONFIG_FILE, said.append) == 0


@pytest.mark.parametrize(
    ("program", "config", "words"),
    [
        ("/home/me/relay.py", CONFIG_FILE, "cannot read it there"),
        ("/opt/my relay/relay.py", CONFIG_FILE, "blank"),
        ("/opt/relay.py", Path("/etc/no-such-file"), "init --config /etc/no-such-file"),
    ],
)
def test_install_says_what_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, config: Path, words: str
) -> None:
    monkeypatch.setenv("GRAPH_SMTP_RELAY_ROOT", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    with pytest.raises(ServiceFault, match=words):
        control("install", Path(program), config, print)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("action", ["install", "uninstall"])
def test_a_package_keeps_its_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    monkeypatch.setenv("GRAPH_SMTP_RELAY_ROOT", str(tmp_path))
    unit = tmp_path / "usr/lib/systemd/system" / f"{NAME}.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("")
    with pytest.raises(ServiceFault, match="has brought the service"):
        control(action, None, CONFIG_FILE, print)
    assert unit.exists()


@pytest.mark.parametrize(("theirs", "ours"), [(0, 0), (1, 1), (3, 1), (6, 2)])
def test_exit_codes_are_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: int, ours: int) -> None:
    """An init script has its own (LSB): 3 is a service that does not run, 6 one that is not configured."""
    monkeypatch.setenv("GRAPH_SMTP_RELAY_ROOT", str(tmp_path))
    script = tmp_path / "etc/init.d" / NAME
    script.parent.mkdir(parents=True)
    script.write_text(f"#!/bin/sh\nexit {theirs}\n")
    script.chmod(0o755)
    assert control("status", None, CONFIG_FILE, print) == ours


def test_the_seeds_flag(tmp_path: Path) -> None:
    ended = run_once("-service", "status", env={"GRAPH_SMTP_RELAY_ROOT": str(tmp_path)})
    assert (ended.returncode, "not installed" in ended.stderr) == (1, True)
    assert run_once("-service=status", env={"GRAPH_SMTP_RELAY_ROOT": str(tmp_path)}).returncode == 1
    ended = run_once("-service", "dance")
    assert (ended.returncode, "invalid choice" in ended.stderr) == (2, True)


# The init script, with other paths


class InitScript:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config, self.log = directory / "config.yaml", directory / "log" / "relay.log"
        self.config.write_text(yaml.safe_dump(CONFIG))
        (directory / "defaults").write_text(
            f'EXEC="{sys.executable} {PROGRAM}"\nCONFIG={self.config}\nPIDFILE={directory}/pid\n'
            f"LOGFILE={self.log}\nRUN_AS=root\n"
        )

    def __call__(self, action: str) -> tuple[int, str]:
        with (self.directory / "out").open("w") as out:
            ended = subprocess.run(
                [str(SCRIPT), action],
                env={"DEFAULTS": str(self.directory / "defaults")},
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=120,
                check=False,
            )
        return ended.returncode, (self.directory / "out").read_text()


@pytest.fixture
def script(tmp_path: Path) -> Iterator[InitScript]:
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("the init script needs root, and setpriv (Debian package util-linux)")
    script = InitScript(tmp_path)
    yield script
    script("stop")


def test_the_init_script(script: InitScript) -> None:
    assert script("status")[0] == 3
    assert script("reload")[0] == 7
    assert script("start") == (0, "")
    assert script("start")[0] == 0, "twice is no fault"
    code, text = script("status")
    assert (code, "is running" in text) == (0, True)
    wait_until(lambda: '"listening"' in script.log.read_text(), "the relay to listen")
    assert script("reload")[0] == 0
    wait_until(lambda: '"reloaded"' in script.log.read_text(), "the reload")
    pid = (script.directory / "pid").read_text()
    assert script("restart")[0] == 0
    assert (script.directory / "pid").read_text() != pid
    assert script("stop")[0] == 0
    assert '"stopped"' in script.log.read_text()
    assert script("status")[0] == 3
    assert script("stop")[0] == 0, "twice is no fault"


def test_the_init_script_with_a_faulty_config(script: InitScript) -> None:
    script.config.write_text("nonsense: 1\n")
    code, text = script("start")
    assert (code, "nonsense: unknown key" in text) == (6, True)
    script.config.unlink()
    code, text = script("start")
    assert (code, "init --config" in text) == (6, True)


def test_a_pid_of_another_program_is_not_ours(script: InitScript) -> None:
    (script.directory / "pid").write_text(f"{os.getpid()}\n")
    assert script("status")[0] == 1
    assert script("stop")[0] == 0, "and this test is still running"


def test_the_init_script_knows_its_words(script: InitScript) -> None:
    assert script("dance")[0] == 2
