# SPDX-License-Identifier: MIT
"""The single file: what it holds, where it unpacks to, and that it runs where there is nothing but Python."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from relay import __version__
from tests.support.bundle import PLAIN_PYTHON, missing, single_file
from tests.support.relay_process import CHECKOUT, RelayProcess, environment, wait_until

NAME, CACHE = "graph-smtp-relay", "GRAPH_SMTP_RELAY_CACHE"
NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")
SANDBOX = ("sandbox", "--listen", "127.0.0.1:0", "--log-level", "info")
THIS = f"+cp3{sys.version_info.minor}-{os.uname().machine}"


@pytest.fixture(scope="module")
def pyz() -> Path:
    return single_file()


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that another user may look into, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture(scope="module")
def unpacked(pyz: Path) -> Iterator[dict[str, str]]:
    """The environment that names a cache in which it has been unpacked already."""
    with tempfile.TemporaryDirectory() as directory:
        env = {CACHE: directory}
        run(pyz, "version", env=env)
        yield env


def run(
    pyz: Path, *arguments: str, env: Mapping[str, str], prefix: Sequence[str] = (), cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The command line carried out by an interpreter that has no library of ours. Unpacking takes its time."""
    return subprocess.run(
        [*prefix, PLAIN_PYTHON, str(pyz), *arguments],
        env=environment(env),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def version(pyz: Path, *, code: int = 0, **env: str) -> str:
    """What it says: its version, or the one line of why not."""
    ended = run(pyz, "version", env=env)
    assert ended.returncode == code, ended.stderr
    (line,) = (ended.stderr or ended.stdout).splitlines()
    return line


# What it holds


def test_it_holds_libraries_for_every_python_and_machine(pyz: Path) -> None:
    with zipfile.ZipFile(pyz) as archive:
        names = set(archive.namelist())
        lists = {name.partition("/")[2] for name in names if name.startswith("lists/")}
        pythons = archive.read("lists/pythons").decode().split()
        machines = ("x86_64", "aarch64")
        assert pythons[:3] == ["3.11", "3.12", "3.13"]
        assert lists == {"pythons", *(f"cp{p.replace('.', '')}-{m}" for p in pythons for m in machines)}
        for tag in lists - {"pythons"}:
            key, *lines = archive.read(f"lists/{tag}").decode().splitlines()
            assert key.startswith(f"{__version__}-")
            assert key.endswith(f"+{tag}")
            listed = {name: int(size) for size, name in (line.split(" ", 1) for line in lines)}
            assert set(listed) <= names
            assert all(archive.getinfo(name).file_size == size for name, size in listed.items())
            inside = {name.partition("/")[2] for name in listed}
            cpython, _, machine = tag.partition("-")
            extension = f"cpython-{cpython[2:]}-{machine}-linux-gnu.so"
            assert {
                f"gevent/libev/corecext.{extension}",
                f"greenlet/_greenlet.{extension}",
                "cryptography/hazmat/bindings/_rust.abi3.so",
                "msal/__init__.py",
                "relay/cli.py",
                "relay/admin/admin.css",
                f"relay/units/{NAME}.service",
            } <= inside
            assert not [name for name in inside if "/tests/" in name]


def test_it_brings_its_licences(pyz: Path) -> None:
    with zipfile.ZipFile(pyz) as archive:
        assert archive.read("LICENSE") == (CHECKOUT / "LICENSE").read_bytes()
        text = archive.read("THIRD-PARTY-LICENSES.txt").decode()
    for library in ("gevent", "greenlet", "msal", "cryptography", "pyyaml", "zope-interface"):
        assert f"\n{library} " in text
    assert "Zope Public License" in text


def test_two_builds_are_the_same(pyz: Path, tmp_path: Path) -> None:
    if not (CHECKOUT / "build" / "wheels").is_dir():
        missing("the wheels are not there any more: make pyz")
    again = tmp_path / "again.pyz"
    command = [sys.executable, str(CHECKOUT / "packaging" / "build_pyz.py"), str(again)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    assert again.read_bytes() == pyz.read_bytes()


# Where it runs


def test_it_runs_for_an_ordinary_user_with_a_home_that_cannot_be_written(pyz: Path, place: Path) -> None:
    program, home, temporary = place / pyz.name, place / "home", place / "tmp"
    shutil.copy(pyz, program)
    home.mkdir(0o555)
    temporary.mkdir()
    temporary.chmod(0o1777)
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:
        prefix = AS_NOBODY
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.com", "b@example.com", "From a single file"
    message.set_content("Text.")
    env = {"HOME": str(home), "TMPDIR": str(temporary), "XDG_CACHE_HOME": ""}
    assert run(program, "version", prefix=prefix, cwd=place, env=env).returncode == 0
    options: dict[str, Any] = {"program": program, "prefix": prefix, "python": PLAIN_PYTHON, "env": env, "cwd": place}
    with RelayProcess(place / "log", {}, arguments=SANDBOX, **options) as relay:
        with relay.smtp("anybody", "anything") as client:
            client.send_message(message)
        wait_until(lambda: "From a single file" in relay.stdout_file.read_text(), "the mail in the sandbox's output")
        assert relay.stderr == ""
    (cache,) = temporary.glob(f"{NAME}-*")
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert (cache.stat().st_uid == NOBODY) is bool(prefix)


def test_the_configuration_beside_it_is_found(pyz: Path, place: Path, unpacked: dict[str, str]) -> None:
    shutil.copy(pyz, place)
    shutil.copy(CHECKOUT / "conf" / "minimal.yaml", place / "config.yaml")
    for cwd, name in ((Path("/"), place / pyz.name), (place, Path(pyz.name))):
        ended = run(name, "check", cwd=cwd, env=unpacked)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert f"{place}/config.yaml: the configuration is fine" in ended.stdout


def test_it_is_a_program_of_its_own(pyz: Path, unpacked: dict[str, str]) -> None:
    ended = subprocess.run(
        [str(pyz), "version"],
        env={"PATH": os.path.dirname(PLAIN_PYTHON), **unpacked},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (ended.stdout, ended.stderr) == (f"{NAME} {__version__}\n", "")


# Pythons and machines that it has no libraries for, or none of its own


BARE = (PLAIN_PYTHON, "-S")  # without site-packages


def pretend(pyz: Path, code: str, *, python: Sequence[str] = BARE, **env: str) -> subprocess.CompletedProcess[str]:
    """Run it in an interpreter of which something is not so."""
    start = f"sys.argv = [{str(pyz)!r}, 'version']; runpy.run_path(sys.argv[0], None, '__main__')"
    return subprocess.run(
        [*python, "-c", f"import runpy, sys; {code}; {start}"],
        env={"PATH": "", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


OLD, MUSL = "sys.version_info = (3, 9, 2)", "import os; os.confstr = lambda name: None"


@pytest.mark.parametrize(("code", "words"), [(OLD, "this is Python 3.9"), (MUSL, "glibc 2.28 or newer")])
def test_where_it_cannot_run_it_says_so_in_a_line(pyz: Path, code: str, words: str) -> None:
    ended = pretend(pyz, code)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"{NAME}: ")
    assert words in line


def test_an_old_python_hands_over_to_a_newer_one(pyz: Path, place: Path) -> None:
    """RHEL 9's python3 is 3.9, and python3.11 lies beside it."""
    (place / "python3.11").symlink_to("/bin/echo")
    ended = pretend(pyz, OLD, PATH=str(place))
    assert (ended.returncode, ended.stdout) == (0, f"{pyz} version\n")


def test_elsewhere_it_takes_the_systems_libraries(pyz: Path) -> None:
    """In the virtual environment of the tests they are installed."""
    ended = pretend(pyz, MUSL, python=[sys.executable])
    assert (ended.stdout, ended.stderr) == (f"{NAME} {__version__}\n", "")


# The cache


def test_the_cache_can_be_pointed_elsewhere(pyz: Path, place: Path) -> None:
    cache = place / "made" / "for it"
    assert version(pyz, GRAPH_SMTP_RELAY_CACHE=str(cache)) == f"{NAME} {__version__}"
    (unpacked,) = cache.iterdir()
    assert unpacked.name.endswith(THIS)
    before = {path: path.stat().st_ino for path in unpacked.rglob("*.py")}
    assert version(pyz, GRAPH_SMTP_RELAY_CACHE=str(cache)) == f"{NAME} {__version__}"
    assert {path: path.stat().st_ino for path in unpacked.rglob("*.py")} == before, "unpacked once"


def test_the_cache_of_a_service(pyz: Path, place: Path) -> None:
    version(pyz, CACHE_DIRECTORY=f"{place / 'first'}:{place / 'second'}", XDG_CACHE_HOME=str(place / "other"))
    assert [path.name for path in place.iterdir()] == ["first"]


@pytest.mark.parametrize("harm", ["emptied", "removed"])
def test_what_is_broken_is_unpacked_again(pyz: Path, place: Path, harm: str) -> None:
    """A power failure leaves empty files, and what tidies up /tmp takes some away."""
    version(pyz, GRAPH_SMTP_RELAY_CACHE=str(place))
    (module,) = place.glob("*/relay/cli.py")
    if harm == "emptied":
        module.write_bytes(b"")
    else:
        module.unlink()
    assert version(pyz, GRAPH_SMTP_RELAY_CACHE=str(place)) == f"{NAME} {__version__}"
    assert module.stat().st_size > 0


def test_nothing_is_left_where_there_is_no_room(pyz: Path, place: Path) -> None:
    """Here no file may be larger than 100,000 octets."""
    ended = run(pyz, "version", prefix=("prlimit", "--fsize=100000"), env={CACHE: str(place)})
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert f"({place}: File too large)" in line
    assert list(place.iterdir()) == []


def test_older_versions_go_when_nobody_uses_them(pyz: Path, place: Path) -> None:
    used, unused, other = (place / f"0.0.{n}-0123456789ab{kind}" for n, kind in ((1, THIS), (2, THIS), (3, "+cp310-x")))
    for old in (used, unused, other):
        old.mkdir()
    descriptor = os.open(used, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        version(pyz, GRAPH_SMTP_RELAY_CACHE=str(place))
    finally:
        os.close(descriptor)
    assert (used.exists(), unused.exists(), other.exists()) == (True, False, True)


def test_a_running_relay_keeps_its_files(pyz: Path, place: Path, unpacked: dict[str, str]) -> None:
    """By a lock that systemd-tmpfiles minds as well (tmpfiles.d(5))."""
    (files,) = Path(unpacked[CACHE]).iterdir()
    with RelayProcess(place, {}, arguments=SANDBOX, program=pyz, python=PLAIN_PYTHON, env=unpacked):
        descriptor = os.open(files, os.O_RDONLY)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)


def test_it_runs_nothing_that_others_can_write(pyz: Path, place: Path) -> None:
    cache = place / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    line = version(pyz, code=1, GRAPH_SMTP_RELAY_CACHE=str(cache))
    assert f"{cache}: others can write to it" in line
    assert "set $GRAPH_SMTP_RELAY_CACHE" in line
    cache.chmod(0o755)
    place.chmod(0o777)
    assert f"{place}: others can write to it" in version(pyz, code=1, GRAPH_SMTP_RELAY_CACHE=str(cache))
    assert list(cache.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a directory of another user's")
def test_it_runs_nothing_that_belongs_to_another_user(pyz: Path, place: Path) -> None:
    """As somebody else might have made it in /tmp, where the name is known."""
    temporary = place / "tmp"
    temporary.mkdir()
    temporary.chmod(0o1777)
    foreign = temporary / f"{NAME}-0"
    foreign.mkdir(0o700)
    os.chown(foreign, NOBODY, NOBODY)
    read_only = {"HOME": "/proc", "XDG_CACHE_HOME": "", "TMPDIR": str(temporary)}
    assert f"{foreign}: belongs to another user" in version(pyz, code=1, **read_only)
    assert list(foreign.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to unpack as one user and run as another")
def test_root_unpacks_for_everybody(pyz: Path, place: Path) -> None:
    cache = place / "cache"
    cache.mkdir()
    cache.chmod(0o755)
    version(pyz, GRAPH_SMTP_RELAY_CACHE=str(cache))
    shutil.copy(pyz, place)
    ended = run(place / pyz.name, "version", prefix=AS_NOBODY, cwd=place, env={CACHE: str(cache)})
    assert (ended.stdout, ended.stderr) == (f"{NAME} {__version__}\n", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to write where a service can read")
def test_as_a_service(pyz: Path, place: Path, unpacked: dict[str, str]) -> None:
    """It names itself, and has a cache of its own, which systemd makes and ProtectSystem leaves writable."""
    if not PLAIN_PYTHON.startswith("/usr/"):
        pytest.skip(f"{PLAIN_PYTHON} lies where a service cannot see it")
    (place / "run/systemd/system").mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        program = shutil.copy(pyz, directory)
        arguments = ("service", "install", "--config", "/etc/hostname")
        ended = run(Path(program), *arguments, env={**unpacked, "GRAPH_SMTP_RELAY_ROOT": str(place)})
    assert (ended.returncode, ended.stderr) == (0, "")
    unit = (place / f"etc/systemd/system/{NAME}.service").read_text()
    assert f"\nExecStart={PLAIN_PYTHON} {program} run --config /etc/hostname\n" in unit
    assert f"\nCacheDirectory={NAME}\n" in unit
