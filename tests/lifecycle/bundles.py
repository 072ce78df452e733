# SPDX-License-Identifier: MIT
"""The RPMs and the single file in clean systems: Debian 12 stands in for RHEL 9, whose Python 3.11 it has, and in
Debian 13 the single file meets Python 3.13. The packages' scripts talk to a systemctl that only writes down what it was
told: systemd itself does not run in a directory.

    sudo .venv/bin/python tests/lifecycle/bundles.py [RELEASE…]

Root is needed for chroot and mounts, mmdebstrap, iproute2 and rpm (Debian packages) for the rest; `make pyz rpm` comes
first.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import smtplib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from relay import __version__  # noqa: E402
from tests.lifecycle.root import Root, in_namespaces, leave_network  # noqa: E402
from tests.support.relay_process import config_for, wait_until  # noqa: E402
from tests.support.sandbox_client import Upstream  # noqa: E402

RELEASES = ("bookworm", "trixie")
NAME = "graph-smtp-relay"
LIB, CONFIG = f"usr/lib/{NAME}", f"etc/{NAME}/config.yaml"
USER, PASSWORD, RECIPIENT = "scanner@example.com", "its-password", "you@example.org"
PORT = 2526  # nobody else is on this loopback
LIBRARIES = (
    *("python3-cryptography", "python3-gevent", "python3-idna", "python3-msal", "python3-prometheus-client"),
    *("python3-pythonjsonlogger", "python3-requests", "python3-yaml"),
)
STUB = '#!/bin/sh\necho "$*" >>/tmp/systemctl.log\n'
AS_ITSELF = ("setpriv", f"--reuid={NAME}", f"--regid={NAME}", "--init-groups", "--")


class Life:
    """An RPM's, in a system that knows none yet."""

    def __init__(self, root: Root, upstream: Upstream, rpm: Path) -> None:
        self.root, self.upstream, self.rpm = root, upstream, rpm
        self.before = root.files()
        (root.path / "run/systemd/system").mkdir(parents=True, exist_ok=True)
        self.stub = root.path / "usr/bin/systemctl"
        self.stub.write_text(STUB)
        self.stub.chmod(0o755)
        shutil.copy(upstream.ca_file, root.path / "tmp/ca.pem")
        (root.path / "tmp/ca.pem").chmod(0o644)

    def run(self, steps: list[Callable[[], None]]) -> None:
        for step in steps:
            start = time.monotonic()
            step()
            print(f"{self.rpm.name}: {step.__name__.replace('_', ' ')} ({time.monotonic() - start:.0f} s)", flush=True)

    def command(self, *arguments: str) -> str:
        """rpm; what it said. The system has no RPM of what is needed, so nothing is asked for."""
        rpm = ["rpm", "--root", str(self.root.path), "--dbpath", "/var/lib/rpm", *arguments]
        ended = subprocess.run(rpm, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert ended.returncode == 0, f"{shlex.join(rpm)}: {ended.stdout}"
        return ended.stdout

    def told(self) -> list[str]:
        """What systemctl has been told since the last time."""
        log = self.root.path / "tmp/systemctl.log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    def installed(self) -> None:
        said = self.command("--install", "--nodeps", str(self.rpm))
        assert f"{NAME} is not configured yet, so it was not started" in said, said
        assert not [line for line in self.told() if re.search(r"\b(start|enable)\b", line)]
        assert self.root.run(NAME, "version").stdout == f"{NAME} {__version__}\n"
        group = int(self.root.run("getent", "group", NAME).stdout.split(":")[2])
        status = (self.root.path / CONFIG).stat()
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o640, 0, group)
        assert list((self.root.path / LIB / "relay/__pycache__").glob("app.*.pyc")), "byte-compiled"
        assert self.command("--verify", "--nodeps", NAME) == ""

    def not_configured(self) -> None:
        ended = self.root.run(NAME, "check", ok=False)
        assert ended.returncode == 2
        assert len(re.findall(r"config\.yaml:\d+: oauth2_config\.\w+: required value is missing", ended.stdout)) == 3

    def configured_and_used(self) -> None:
        config = self.root.path / CONFIG
        config.write_text(yaml.safe_dump(config_for(self.upstream, ca_bundle="/tmp/ca.pem", listen_addr=f":{PORT}")))
        assert self.root.run(NAME, "check", "--online").returncode == 0
        unit = (self.root.path / f"usr/lib/systemd/system/{NAME}.service").read_text()
        (command,) = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)
        with self.started(*AS_ITSELF, *shlex.split(command)):
            send(self.rpm.name)
        assert self.upstream.messages()[-1]["subject"] == self.rpm.name

    @contextmanager
    def started(self, *command: str) -> Iterator[None]:
        """A relay that listens."""
        with started(self.root, *command):
            yield

    def upgraded(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            higher = higher_release(Path(directory))
            assert "higher" in higher.name
            config = (self.root.path / CONFIG).read_text()
            (self.root.path / LIB / "relay/left_over.py").write_text("")
            said = self.command("--upgrade", "--nodeps", str(higher))
        assert not re.search("warning:|error:", said), said
        assert f"try-restart {NAME}.service" in self.told()
        assert (self.root.path / CONFIG).read_text() == config
        assert self.command("--query", "--queryformat", "%{RELEASE}", NAME).endswith(".higher")
        assert list((self.root.path / LIB / "relay/__pycache__").glob("app.*.pyc"))
        (self.root.path / LIB / "relay/left_over.py").unlink()
        self.configured_and_used()

    def erased(self) -> None:
        said = self.command("--erase", NAME)
        assert f"--no-reload disable --now {NAME}.socket {NAME}.service" in self.told()
        left = self.root.files() - self.before
        left = {path for path in left if not path.startswith(("var/lib/rpm", "run/systemd"))}
        # The configuration that somebody wrote, our stub, a directory that RHEL has anyway, and what useradd writes.
        expected = {f"etc/{NAME}", f"{CONFIG}.rpmsave", "usr/bin/systemctl", "usr/share/licenses"}
        assert left - {f"etc/{name}-" for name in ("passwd", "group", "shadow", "gshadow")} == expected, (left, said)
        shutil.rmtree(self.root.path / f"etc/{NAME}")
        (self.root.path / "usr/share/licenses").rmdir()
        self.stub.unlink()


def send(subject: str) -> None:
    with smtplib.SMTP("127.0.0.1", PORT, local_hostname="device.example", timeout=60) as client:
        client.login(USER, PASSWORD)
        client.sendmail(USER, RECIPIENT, f"From: {USER}\nTo: {RECIPIENT}\nSubject: {subject}\n\nText.\n")


@contextmanager
def started(root: Root, *command: str) -> Iterator[None]:
    """A relay that listens; in the end it is told to stop, and does."""
    process = subprocess.Popen(["chroot", str(root.path), *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: listens() or process.poll() is not None, "the relay to listen", 300)
        assert process.poll() is None, process.communicate()[0].decode()
        yield
    finally:
        process.terminate()
        said = process.communicate(timeout=300)[0].decode()
    assert process.returncode == 0, said


def listens() -> bool:
    try:
        with smtplib.SMTP("127.0.0.1", PORT, local_hostname="device.example", timeout=60):
            return True
    except OSError:
        return False


def higher_release(directory: Path) -> Path:
    """The package without libraries as a later release of itself, from what the last `make rpm` has left."""
    # fmt: off
    subprocess.run(
        ["rpmbuild", "-bb", "--target", "noarch", "--without", "bundled", "--define", f"_topdir {CHECKOUT}/build/rpm",
         "--define", "dist .higher", "--define", f"_rpmdir {directory}", str(CHECKOUT / f"packaging/rpm/{NAME}.spec")],
        check=True, capture_output=True,
    )
    # fmt: on
    (made,) = directory.rglob("*.rpm")
    return made


def single_file(root: Root, upstream: Upstream) -> None:
    """Beside its configuration in an empty directory, for a user whose home cannot be written."""
    start = time.monotonic()
    place = root.path / "opt/relay"
    place.mkdir(mode=0o755)
    shutil.copy(CHECKOUT / f"dist/{NAME}.pyz", place)
    root.run("useradd", "--home-dir", "/home/somebody", "somebody")
    (root.path / "home/somebody").mkdir(mode=0o555)
    config = config_for(upstream, ca_bundle="/tmp/ca.pem", listen_addr=f"127.0.0.1:{PORT}")
    (place / "config.yaml").write_text(yaml.safe_dump(config))
    shutil.copy(upstream.ca_file, root.path / "tmp/ca.pem")
    (root.path / "tmp/ca.pem").chmod(0o644)
    (root.path / "tmp").chmod(0o1777)
    as_somebody = ("setpriv", "--reuid=somebody", "--regid=somebody", "--init-groups", "--reset-env", "--")
    python = root.run("python3", "--version").stdout.strip()
    with started(root, *as_somebody, "python3", f"/opt/relay/{NAME}.pyz"):
        send(f"From {python}")
    assert upstream.messages()[-1]["subject"] == f"From {python}"
    assert {path.name for path in place.iterdir()} == {f"{NAME}.pyz", "config.yaml"}
    print(f"{root.release}: single file with {python} ({time.monotonic() - start:.0f} s)", flush=True)


def live(release: str) -> None:
    """Everything that one system is for, in this process's own namespaces."""
    root = Root(release)
    root.apt("update")
    root.apt("install", "--download-only", "python3", *LIBRARIES)
    leave_network()
    root.apt("install", "python3")
    with tempfile.TemporaryDirectory() as directory, Upstream(Path(directory)) as upstream:
        single_file(root, upstream)
        if release != "bookworm":
            return
        machine = os.uname().machine
        (bundled,) = (CHECKOUT / "dist").glob(f"{NAME}-{__version__}-1.el9.{machine}.rpm")
        life = Life(root, upstream, bundled)
        life.run([life.installed, life.not_configured, life.configured_and_used, life.erased])
        root.apt("install", *LIBRARIES)
        life = Life(root, upstream, CHECKOUT / f"dist/{NAME}-{__version__}-1.noarch.rpm")
        life.run([life.installed, life.not_configured, life.configured_and_used, life.upgraded, life.erased])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", nargs="*", choices=[[], *RELEASES])
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # in namespaces of its own already
    options = parser.parse_args()
    if options.here:
        live(*options.release)
        return 0
    if os.geteuid() != 0:
        print("bundles.py: chroot and mounts need root: sudo", *sys.argv, file=sys.stderr)
        return 2
    command = [sys.executable, str(Path(__file__)), "--here"]
    running = [subprocess.Popen(in_namespaces([*command, release])) for release in options.release or RELEASES]
    return max(process.wait() for process in running)


if __name__ == "__main__":
    sys.exit(main())
