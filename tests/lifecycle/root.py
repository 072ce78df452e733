# SPDX-License-Identifier: MIT
"""A clean Debian system in a directory, to install packages in. Needs root, and mmdebstrap.

The process that makes one has to be alone in its namespaces (in_namespaces): the system lies on a tmpfs there, so that
whatever ends the process, mounts, files and daemons end with it. What was downloaded is kept in CACHE.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

CACHE = Path(os.environ.get("ROOT_CACHE") or "/var/cache/graph-smtp-relay-test")
_STALE_S = 7 * 24 * 3600
_CLONE_NEWNET = 0x40000000  # unshare(2)
# What dpkg and apt write of themselves, and what moves with the machine.
_NOT_COMPARED = ("dev", "proc", "tmp", "run/lock", "var/cache", "var/lib/apt", "var/lib/dpkg", "var/log/apt")


def in_namespaces(command: Sequence[str]) -> list[str]:
    """The command line that runs it in mount and process namespaces of its own, no longer than who asked for it."""
    own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
    return ["setpriv", "--pdeathsig", "KILL", *own, *command]


def leave_network() -> None:
    """From here on this process and its children have a loopback of their own, and nothing else."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    _run("ip", "link", "set", "lo", "up")


class Root:
    """release: bookworm, trixie. path: where the system lies, seen from outside."""

    def __init__(self, release: str) -> None:
        self.release = release
        CACHE.mkdir(parents=True, exist_ok=True)
        self._lock = (CACHE / f"{release}.lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)  # another checkout's run of the same release goes first
        self.path = CACHE / f"{release}.root"
        self.path.mkdir(exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", "mode=755,size=4G", "root", str(self.path))
        _run("tar", "-x", "-f", str(_base(release)), "-C", str(self.path), "--numeric-owner")
        for kind, place in (("proc", "proc"), ("devpts", "dev/pts"), ("tmpfs", "dev/shm")):
            (self.path / place).mkdir(exist_ok=True)
            _run("mount", "-t", kind, kind, str(self.path / place))
        downloads, archives = CACHE / f"{release}.archives", self.path / "var/cache/apt/archives"
        (downloads / "partial").mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", str(downloads), str(archives))
        (self.path / "etc/apt/apt.conf.d/90test").write_text(
            'APT::Install-Recommends "false";\nAPT::Keep-Downloaded-Packages "true";\n'
            'APT::Sandbox::User "root";\nDpkg::Use-Pty "false";\nquiet "1";\n'
        )
        policy = self.path / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 104\n")  # services may be started, although there is no init
        policy.chmod(0o755)
        shutil.copy("/etc/resolv.conf", self.path / "etc/resolv.conf")

    def run(self, *command: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """Carried out inside. ok: another exit code than 0 ends the test, with what was said."""
        ended = subprocess.run(
            ["chroot", str(self.path), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": "/root",
                "LC_ALL": "C.UTF-8",
                "DEBIAN_FRONTEND": "noninteractive",
            },
            check=False,
        )
        assert not ok or ended.returncode == 0, f"{' '.join(command)}: exit code {ended.returncode}\n{ended.stdout}"
        return ended

    def apt(self, *arguments: str) -> str:
        """apt-get; what it said."""
        return self.run("apt-get", "--yes", *arguments).stdout

    def files(self) -> set[str]:
        """The paths of everything that a package could leave behind."""
        found: set[str] = set()
        for directory, names, files in os.walk(self.path):
            inside = os.path.relpath(directory, self.path)
            names[:] = [name for name in names if os.path.normpath(f"{inside}/{name}") not in _NOT_COMPARED]
            found.update(os.path.normpath(f"{inside}/{name}") for name in (*names, *files))
        return found


def _base(release: str) -> Path:
    """The tar file of a minimal system, made when there is none, or an old one."""
    base = CACHE / f"{release}.tar"
    if base.exists() and time.time() - base.stat().st_mtime < _STALE_S:
        return base
    new = base.with_suffix(f".{os.getpid()}.tar")
    _run("mount", "-t", "tmpfs", "-o", "size=4G", "work", "/mnt")
    # fmt: off
    _run("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--skip=cleanup/apt/lists",
         release, str(new), _mirror(), env={**os.environ, "TMPDIR": "/mnt"})
    # fmt: on
    _run("umount", "/mnt")
    new.replace(base)
    return base


def _mirror() -> str:
    """Where this machine itself gets Debian from; $DEBIAN_MIRROR says otherwise."""
    if given := os.environ.get("DEBIAN_MIRROR"):
        return given
    wanted = "$(REPO_URI) $(RELEASE) $(ORIGIN) $(COMPONENT)"
    for line in _output("apt-get", "indextargets", "--format", wanted, "Created-By: Packages").splitlines():
        uri, release, origin, component = line.split()
        if (origin, component) == ("Debian", "main") and "-" not in release:
            return uri
    sys.exit("this machine's apt knows no Debian mirror: name one in DEBIAN_MIRROR")


def _run(*command: str, env: dict[str, str] | None = None) -> None:
    subprocess.run(command, check=True, env=env, stdin=subprocess.DEVNULL)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
