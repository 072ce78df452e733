# SPDX-License-Identifier: MIT
"""service install|start|stop|status|uninstall: a systemd unit, or an init script where there is no systemd.

Knows the system's places and commands; nothing of mail. $GRAPH_SMTP_RELAY_ROOT puts all files below another directory,
and runs no command of the system then: for packagers and tests.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from zipfile import is_zipfile

NAME = "graph-smtp-relay"
_SYSTEMD = Path("/run/systemd/system")  # sd_booted(3)
_UNIT = Path("/etc/systemd/system") / f"{NAME}.service"
_SCRIPT = Path("/etc/init.d") / NAME
_PACKAGED = tuple(Path(directory, "systemd/system", f"{NAME}.service") for directory in ("/usr/lib", "/lib"))
_HIDDEN = (Path("/root"), Path("/home"), Path("/tmp"))  # noqa: S108 - ProtectHome and PrivateTmp hide them
_EXIT_CODES = {0: 0, 6: 2}  # ours, of those of systemctl and the init script: 6 is "not configured" (LSB), else 1


class ServiceFault(Exception):
    """Why it could not be done. The text is for the terminal."""


def control(action: str, program: Path | None, config: Path, say: Callable[[str], None]) -> int:
    """Carry the action out; the exit code. program: the file that was started. Raises ServiceFault."""
    root = Path(os.environ.get("GRAPH_SMTP_RELAY_ROOT") or "/")
    has_systemd = _SYSTEMD.is_dir() if root == Path("/") else (root / "run/systemd/system").is_dir()
    target = root / (_UNIT if has_systemd else _SCRIPT).relative_to("/")
    packaged = next((there for path in _PACKAGED if (there := root / path.relative_to("/")).exists()), None)
    system = _run if root == Path("/") else lambda command: 0
    if action != "status" and root == Path("/") and os.geteuid() != 0:
        raise ServiceFault(f"service {action} needs root; try sudo")
    if packaged and action in ("install", "uninstall"):
        raise ServiceFault(f"the package {NAME} has brought the service: {packaged}")
    if packaged and has_systemd:
        target = packaged
    try:
        match action:
            case "install":
                _install(target, program, config, system, say, has_systemd=has_systemd)
                return 0
            case "uninstall":
                return _uninstall(target, system, say, has_systemd=has_systemd)
        if not target.exists():
            raise ServiceFault(f"{target}: not installed; see service install")
        command = ["systemctl", action, NAME] if has_systemd else [str(target), action]
        return _EXIT_CODES.get(_run(command), 1)
    except OSError as fault:
        raise ServiceFault(f"{fault.filename or target}: {fault.strerror}") from None


def filled_in(template: str, command: str, config: Path) -> str:
    """The unit or script of a template."""
    return template.replace("@EXEC@", command).replace("@CONFIG@", str(config))


def _command(program: Path | None) -> list[str]:
    """How this very program is started: the interpreter and the file, or the console command alone."""
    if program is None:
        return [str(Path(sys.argv[0]).absolute())]
    return [sys.executable, str(program)]


def _install(
    target: Path,
    program: Path | None,
    config: Path,
    system: Callable[[Sequence[str]], int],
    say: Callable[[str], None],
    *,
    has_systemd: bool,
) -> None:
    command = _command(program)
    for path in (*map(Path, command), config):
        if not re.fullmatch(r"[\w/.+@-]+", str(path)):  # systemd and the shell each have their own way to quote
            raise ServiceFault(f"{path}: a blank or another odd character in a path; move it")
        if any(hidden in path.parents for hidden in _HIDDEN):
            raise ServiceFault(
                f"{path}: the service's user cannot read it there; move it, for instance to /opt or /etc"
            )
    if not config.exists():
        raise ServiceFault(f"{config}: no such file; make it with: {NAME} init --config {config}")
    template = files("relay") / "units" / f"{NAME}.{'service' if has_systemd else 'init'}"
    text = filled_in(template.read_text("utf-8"), " ".join(command), config)
    if program is not None and is_zipfile(program):  # the single file, which unpacks its libraries there
        text = text.replace("\nLogsDirectory=", f"\nCacheDirectory={NAME}\nLogsDirectory=")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    target.chmod(0o644 if has_systemd else 0o755)
    say(f"{target}: written")
    _make_user(system, say)
    _let_read(config, system, say)
    if has_systemd:
        system(("systemctl", "daemon-reload"))
        system(("systemctl", "enable", NAME))
    elif shutil.which("update-rc.d"):
        system(("update-rc.d", NAME, "defaults"))
    elif shutil.which("chkconfig"):
        system(("chkconfig", "--add", NAME))
    say(f"start it with: {NAME} service start")


def _uninstall(
    target: Path, system: Callable[[Sequence[str]], int], say: Callable[[str], None], *, has_systemd: bool
) -> int:
    if not target.exists():
        say(f"{target}: is not there")
        return 0
    if has_systemd:
        system(("systemctl", "disable", "--now", NAME))
    else:
        system((str(target), "stop"))
    target.unlink()
    if has_systemd:
        system(("systemctl", "daemon-reload"))
    elif shutil.which("update-rc.d"):
        system(("update-rc.d", NAME, "remove"))
    elif shutil.which("chkconfig"):
        system(("chkconfig", "--del", NAME))
    say(f"{target}: removed; the configuration and the user {NAME} stay")
    return 0


def _make_user(system: Callable[[Sequence[str]], int], say: Callable[[str], None]) -> None:
    try:
        pwd.getpwnam(NAME)
    except KeyError:
        options = ("--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent")
        if system(("useradd", *options, "--shell", "/usr/sbin/nologin", NAME)):
            raise ServiceFault(f"the user {NAME} could not be made; make it, and install again") from None
        say(f"user {NAME}: made")


def _let_read(config: Path, system: Callable[[Sequence[str]], int], say: Callable[[str], None]) -> None:
    """The configuration holds secrets: for root to write, for the service to read, for nobody else."""
    if system is not _run:
        return
    os.chown(config, 0, grp.getgrnam(NAME).gr_gid)
    config.chmod(0o640)
    say(f"{config}: now root:{NAME}, mode 0640; do the same with the files that it names")


def _run(command: Sequence[str]) -> int:
    try:
        return subprocess.run(command, check=False).returncode
    except FileNotFoundError:
        raise ServiceFault(f"{command[0]}: no such command on this system") from None
