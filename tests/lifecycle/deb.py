# SPDX-License-Identifier: MIT
"""The life of the Debian package, in a clean system of each release: installed by apt, configured, started by its init
script, used, reloaded, upgraded while mail flows, removed, purged. And the tests, with that release's own libraries.

    sudo .venv/bin/python tests/lifecycle/deb.py [--tests] [--no-lifecycle] [RELEASE…]

Root is needed for chroot and mounts, mmdebstrap, iproute2 and swaks (Debian packages) for the rest; `make deb` comes
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
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from relay import __version__  # noqa: E402
from tests.lifecycle.root import Root, in_namespaces, leave_network  # noqa: E402
from tests.support.relay_process import config_for, wait_until  # noqa: E402
from tests.support.sandbox_client import Upstream  # noqa: E402

RELEASES = {"bookworm": "3.11", "trixie": "3.13"}  # with their Python
NAME = "graph-smtp-relay"
HIGHER = f"{__version__}+higher"
CONFIG, LOG, INIT = f"etc/{NAME}/config.yaml", f"var/log/{NAME}/{NAME}.log", f"/etc/init.d/{NAME}"
USER, PASSWORD, RECIPIENT = "scanner@example.com", "its-password", "you@example.org"
DEFAULT_PORT = 2526  # nobody else is on this loopback
TEST_TOOLS = ("pytest>=8", "pytest-timeout", "hypothesis>=6", "aiosmtpd")  # none of them a library of ours


OF_ADDUSER = {"run/adduser", "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-"}


class Device(threading.Thread):
    """Sends one message after the other, each until it is taken, as a device does. taken: their subjects."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.taken: list[str] = []
        self.again = 0  # tries that ended without an answer to the message, or with a 4xx
        self._enough = threading.Event()

    def run(self) -> None:
        while not self._enough.is_set():
            subject = f"Message {len(self.taken)}"
            while not self._sent(subject):
                self.again += 1
                time.sleep(0.1)
            self.taken.append(subject)

    def stop(self) -> None:
        self._enough.set()
        self.join()

    def wait_for(self, more: int) -> None:
        """Until so many more have been taken."""
        wanted = len(self.taken) + more
        wait_until(lambda: len(self.taken) >= wanted, "mail to flow")

    @staticmethod
    def _sent(subject: str) -> bool:
        try:
            client = smtplib.SMTP("127.0.0.1", DEFAULT_PORT, local_hostname="device.example", timeout=60)
            try:
                client.login(USER, PASSWORD)
                client.sendmail(USER, RECIPIENT, f"From: {USER}\nTo: {RECIPIENT}\nSubject: {subject}\n\nText.\n")
            finally:
                client.close()  # without QUIT, whose answer may be that the relay is stopping
        except smtplib.SMTPResponseException as refusal:
            if refusal.smtp_code >= 500:
                raise
            return False
        except OSError:  # refused, or ended
            return False
        return True


class Lifecycle:
    """The steps, in order; each leaves the system as the next one wants it."""

    def __init__(self, root: Root, deb: Path, higher: Path, upstream: Upstream) -> None:
        self.root, self.upstream = root, upstream
        self.deb, self.higher = (self._brought(path) for path in (deb, higher))
        self.config = root.path / CONFIG
        self.before: set[str] = set()

    def run(self) -> None:
        for step in (
            self.its_dependencies,
            self.installed,
            self.not_configured,
            self.configured,
            self.mail_by_swaks,
            self.reloaded,
            self.upgraded_while_mail_flows,
            self.upgraded_while_stopped,
            self.removed,
            self.back_again,
            self.purged,
        ):
            start = time.monotonic()
            try:
                step()
            except BaseException:
                self.say(f"{step.__name__} failed; the end of the log:\n{self.end_of_log()}")
                raise
            self.say(f"{step.__name__.replace('_', ' ')} ({time.monotonic() - start:.0f} s)")

    def say(self, text: str) -> None:
        print(f"{self.root.release}: {text}", flush=True)

    def its_dependencies(self) -> None:
        """Before the package itself, so that what it leaves behind is not lost among what they bring."""
        self.root.apt("satisfy", self.root.run("dpkg-deb", "--field", self.deb, "Depends").stdout.strip())
        self.before = self.root.files()

    def installed(self) -> None:
        said = self.root.apt("install", self.deb)
        assert f"{NAME} is not configured yet, so it was not started" in said, said
        assert self.version() == f"{NAME} {__version__}"
        group = self.root.run("getent", "group", NAME).stdout.split(":")[2]
        status = self.config.stat()
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o640, 0, int(group))
        assert list((self.root.path / f"usr/lib/{NAME}/relay/__pycache__").glob("app.*.pyc")), "byte-compiled"
        assert list((self.root.path / "etc/rc2.d").glob(f"S*{NAME}")), "enabled"
        assert (self.root.path / f"etc/systemd/system/multi-user.target.wants/{NAME}.service").is_symlink()
        assert not (self.root.path / f"etc/systemd/system/sockets.target.wants/{NAME}.socket").is_symlink()

    def not_configured(self) -> None:
        assert self.init("status")[0] == 3
        for code, said in (self.init("start"), self.command("check")):
            assert code != 0
            assert len(re.findall(r"config\.yaml:\d+: oauth2_config\.\w+: required value is missing", said)) == 3, said
        assert self.init("status")[0] == 3

    def configured(self) -> None:
        shutil.copy(self.upstream.ca_file, self.root.path / "usr/local/share/ca.pem")
        self.configure()
        code, said = self.command("check", "--online")
        assert code == 0, said
        self.start()
        uid = int(self.root.run("id", "-u", NAME).stdout)
        assert os.stat(f"/proc/{self.pid()}").st_uid == uid
        assert (self.root.path / LOG).stat().st_uid == uid

    def mail_by_swaks(self) -> None:
        # fmt: off
        subprocess.run(
            ["swaks", "--silent", "2", "--server", f"127.0.0.1:{DEFAULT_PORT}", "--auth", "PLAIN", "--auth-user", USER,
             "--auth-password", PASSWORD, "--from", USER, "--to", RECIPIENT, "--header", "Subject: By swaks"],
            check=True,
        )
        # fmt: on
        assert self.arrived() == ["By swaks"]

    def reloaded(self) -> None:
        pid = self.pid()
        self.configure(max_message_size=1234567)
        assert self.init("reload") == (0, "")
        wait_until(lambda: self.size() == "1234567", "the new configuration")
        assert self.pid() == pid

    def upgraded_while_mail_flows(self) -> None:
        self.upstream.reset()
        config, pid = self.kept(), self.pid()
        device = Device()
        device.start()
        device.wait_for(20)
        self.root.apt("install", self.higher)
        device.wait_for(20)
        device.stop()
        arrived = Counter(self.arrived())
        assert arrived == Counter(device.taken), (
            f"{arrived - Counter(device.taken)} too many, {Counter(device.taken) - arrived} lost"
        )
        assert self.version() == f"{NAME} {HIGHER}"
        assert self.pid() != pid
        assert self.kept() == config
        self.say(f"{len(device.taken)} messages during the upgrade, {device.again} of them sent again, none lost")

    def upgraded_while_stopped(self) -> None:
        assert self.init("stop") == (0, "")
        config = self.kept()
        self.root.apt("install", "--reinstall", self.higher)
        assert self.init("status")[0] == 3
        assert self.kept() == config
        self.start()

    def removed(self) -> None:
        pid = self.pid()
        self.root.apt("remove", NAME)
        wait_until(lambda: not command_line(pid), "the process to end")
        assert not (self.root.path / f"usr/lib/{NAME}").exists(), "byte code is gone too"
        assert self.config.exists()
        assert (self.root.path / LOG).exists()

    def back_again(self) -> None:
        """Installed again, it finds its configuration and starts."""
        config = self.kept()
        self.root.apt("install", self.deb)
        assert self.kept() == config
        self.wait_until_it_listens()

    def purged(self) -> None:
        assert self.command("encrypt", "--config", f"/{CONFIG}")[0] == 0
        foreign = self.root.path / f"etc/{NAME}/certificate.pem"
        foreign.write_text("the administrator's own")
        said = self.root.apt("purge", NAME)
        assert os.listdir(foreign.parent) == [foreign.name], said
        foreign.unlink()
        foreign.parent.rmdir()
        left = self.root.files() - self.before - OF_ADDUSER
        assert left == {"usr/local/share/ca.pem"}, left
        assert self.root.run("getent", "passwd", NAME).stdout.endswith(":/nonexistent:/usr/sbin/nologin\n"), "it stays"

    # What the steps are made of

    def init(self, action: str) -> tuple[int, str]:
        ended = self.root.run(INIT, action, ok=False)
        return ended.returncode, ended.stdout

    def command(self, *arguments: str) -> tuple[int, str]:
        ended = self.root.run(NAME, *arguments, ok=False)
        return ended.returncode, ended.stdout

    def start(self) -> None:
        assert self.init("start") == (0, "")
        self.wait_until_it_listens()

    def wait_until_it_listens(self) -> None:
        wait_until(self.size, "the relay to listen")
        assert self.init("status")[0] == 0

    def configure(self, **keys: Any) -> None:
        """As an administrator does: the file is written in place, and keeps owner and mode."""
        own = yaml.safe_load((CHECKOUT / "packaging/config.yaml").read_text("utf-8"))
        kept = {key: own[key] for key in ("listen_addr", "admin_addr")}
        self.config.write_text(
            yaml.safe_dump(
                config_for(self.upstream, ca_bundle="/usr/local/share/ca.pem", log_level="info", **kept, **keys)
            )
        )

    def kept(self) -> tuple[str, int, int, int]:
        """What an upgrade must not change."""
        status = self.config.stat()
        return self.config.read_text(), status.st_mode, status.st_uid, status.st_gid

    def size(self) -> str:
        """What EHLO says of SIZE; empty where nobody listens."""
        try:
            with smtplib.SMTP("127.0.0.1", DEFAULT_PORT, local_hostname="device.example", timeout=60) as client:
                client.ehlo()
                return client.esmtp_features["size"]
        except OSError:
            return ""

    def end_of_log(self) -> str:
        log = self.root.path / LOG
        return "\n".join(log.read_text("utf-8").splitlines()[-5:]) if log.exists() else ""

    def pid(self) -> int:
        return int((self.root.path / f"run/{NAME}.pid").read_text())

    def version(self) -> str:
        return self.command("version")[1].strip()

    def arrived(self) -> list[str]:
        return [message["subject"] for message in self.upstream.messages()]

    def _brought(self, deb: Path) -> str:
        """The path of the package inside."""
        shutil.copy(deb, self.root.path / "tmp")
        return f"/tmp/{deb.name}"


def command_line(pid: int) -> bytes:
    """Empty for a process that has ended, also where nobody has asked for its exit code yet."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def higher_version(deb: Path, directory: Path) -> Path:
    """The same package as a later version of itself."""
    tree = directory / "higher"
    subprocess.run(["dpkg-deb", "--raw-extract", str(deb), str(tree)], check=True)
    for path, found in ((tree / "DEBIAN/control", "Version: "), (tree / f"usr/lib/{NAME}/relay/__init__.py", '"')):
        text = path.read_text("utf-8")
        assert found + __version__ in text, path
        path.write_text(text.replace(found + __version__, found + HIGHER))
    made = directory / f"{NAME}_{HIGHER}_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", str(tree), str(made)], check=True, capture_output=True)
    return made


def run_tests(root: Root) -> None:
    """All tests whose clients Debian's minimal system has, with the libraries of the release."""
    place = root.path / "root/checkout"
    place.mkdir()
    left_out = [
        f"--exclude={name}" for name in ("./.git", "./.venv*", "./build", "./dist", "node_modules", "__pycache__")
    ]
    packed = subprocess.run(["tar", "-c", *left_out, "."], cwd=CHECKOUT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(place)], input=packed, check=True)
    # fmt: off
    ended = root.run(
        "env", "--chdir=/root/checkout", "PYTHONPATH=/root/tools",
        "python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", *shlex.split(os.environ.get("PYTEST_ARGS", "")),
        # These see many clients, and no library of ours.
        "--ignore=tests/e2e/test_matrix.py", "--ignore=tests/e2e/test_browser.py", "--ignore=tests/fidelity",
        ok=False,
    )
    # fmt: on
    lines = ended.stdout.splitlines()
    print(ended.stdout if ended.returncode else f"{root.release}: {lines[-1]}", flush=True)
    assert ended.returncode == 0, "tests failed"


def live(release: str, *, lifecycle: bool, tests: bool) -> None:
    """What the command line asks for, in this process's own namespaces."""
    start = time.monotonic()
    root = Root(release)
    (deb,) = (CHECKOUT / "dist").glob(f"{NAME}_{__version__}_all.deb")
    root.apt("update")
    shutil.copy(deb, root.path / "tmp")
    root.apt("install", "--download-only", f"/tmp/{deb.name}")
    if tests:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(root.path / "root/tools")]
        fitting = ["--only-binary=:all:", f"--python-version={RELEASES[release]}"]
        subprocess.run([*pip, *fitting, *TEST_TOOLS], check=True)
    leave_network()
    print(f"{release}: a clean system, and the packages for it ({time.monotonic() - start:.0f} s)", flush=True)
    if lifecycle:
        with tempfile.TemporaryDirectory() as directory, Upstream(Path(directory)) as upstream:
            Lifecycle(root, deb, higher_version(deb, Path(directory)), upstream).run()
    if tests:
        root.apt("install", f"/tmp/{deb.name}")  # for its dependencies
        run_tests(root)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", nargs="*", choices=[[], *RELEASES])
    parser.add_argument("--tests", action="store_true", help="the tests too")
    parser.add_argument("--no-lifecycle", action="store_true", help="the tests alone")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # in namespaces of its own already
    options = parser.parse_args()
    if options.here:
        live(*options.release, lifecycle=not options.no_lifecycle, tests=options.tests)
        return 0
    if os.geteuid() != 0:
        print("deb.py: chroot and mounts need root: sudo", *sys.argv, file=sys.stderr)
        return 2
    flags = [flag for flag in sys.argv[1:] if flag.startswith("--")]
    command = [sys.executable, str(Path(__file__)), "--here", *flags]
    running = [subprocess.Popen(in_namespaces([*command, release])) for release in options.release or RELEASES]
    return max(process.wait() for process in running)


if __name__ == "__main__":
    sys.exit(main())
