# SPDX-License-Identifier: MIT
"""The RPMs, as rpm and rpmlint see them. tests/lifecycle/bundles.py installs and runs them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from relay import __version__
from tests.support.bundle import DIST, command, missing
from tests.support.relay_process import CHECKOUT

NAME = "graph-smtp-relay"
SPEC = CHECKOUT / "packaging" / "rpm" / f"{NAME}.spec"


@pytest.fixture(scope="module", params=["with libraries", "without"])
def rpm(request: pytest.FixtureRequest) -> Path:
    """The newest of its kind in dist/."""
    pattern = (
        f"{NAME}-{__version__}-1.noarch.rpm" if request.param == "without" else f"{NAME}-{__version__}-1.el9.*.rpm"
    )
    found = sorted(DIST.glob(pattern))
    if not found:
        missing("the RPMs are missing: make rpm")
    return found[-1]


def query(rpm: Path, *arguments: str) -> list[str]:
    asked = [command("rpm", "rpm"), "--query", "--package", *arguments, str(rpm)]
    return subprocess.run(asked, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()


def test_rpmlint_finds_no_error(rpm: Path) -> None:
    asked = [command("rpmlint", "rpmlint"), "-c", str(SPEC.with_name("rpmlint.toml")), str(rpm), str(SPEC)]
    ended = subprocess.run(asked, capture_output=True, text=True, timeout=300, check=False)
    assert (ended.returncode, re.findall(r".*: E: .*", ended.stdout)) == (0, []), ended.stderr


def test_the_files_and_whose_they_are(rpm: Path) -> None:
    lines = query(rpm, "--queryformat", "[%{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILENAMES}\n]")
    files = {path: (mode, owner) for mode, owner, path in (line.split(" ", 2) for line in lines)}
    assert files[f"/etc/{NAME}/config.yaml"] == ("-rw-r-----", f"root:{NAME}")
    assert files[f"/var/log/{NAME}"] == ("drwxr-x---", f"{NAME}:{NAME}")
    assert files[f"/usr/bin/{NAME}"] == ("-rwxr-xr-x", "root:root")
    assert {
        f"/usr/lib/systemd/system/{NAME}.service",
        f"/usr/lib/systemd/system/{NAME}.socket",
        f"/etc/logrotate.d/{NAME}",
        f"/etc/fail2ban/filter.d/{NAME}.conf",
        f"/usr/share/bash-completion/completions/{NAME}",
        f"/usr/share/man/man1/{NAME}.1.gz",
        f"/usr/share/man/man5/{NAME}.yaml.5.gz",
        f"/usr/share/licenses/{NAME}/LICENSE",
        f"/usr/lib/{NAME}/relay/cli.py",
    } <= set(files)
    has_libraries = f"/usr/lib/{NAME}/gevent/__init__.py" in files
    assert has_libraries is (".el9." in rpm.name)
    assert (f"/usr/share/licenses/{NAME}/THIRD-PARTY-LICENSES.txt" in files) is has_libraries
    others = {path for path, (_, owner) in files.items() if owner != "root:root"}
    assert others == {f"/etc/{NAME}/config.yaml", f"/var/log/{NAME}"}


def test_an_upgrade_keeps_the_configuration(rpm: Path) -> None:
    kept = query(rpm, "--queryformat", "[%{FILEFLAGS:fflags} %{FILENAMES}\n]")
    assert f"cn /etc/{NAME}/config.yaml" in kept  # config, noreplace


def test_what_it_needs_and_brings(rpm: Path) -> None:
    needs, brings = set(query(rpm, "--requires")), query(rpm, "--provides")
    bundled = [line for line in brings if line.startswith("bundled(python3dist(")]
    if ".el9." in rpm.name:
        assert {"python3.11", "/usr/bin/python3.11", "libstdc++"} <= needs  # the last for greenlet
        assert not [need for need in needs - {"libstdc++"} if need.startswith(("python3-", "lib"))]
        assert "bundled(python3dist(gevent))" in {line.partition(" ")[0] for line in bundled}
    else:
        assert bundled == []
        listed = (CHECKOUT / "setup.py").read_text("utf-8").partition("install_requires")[2].partition("]")[0]
        floors = {"-".join(pair).lower() for pair in re.findall(r'"([\w-]+)>=([\d.]+)"', listed)}
        floors.discard("pybase64-1.3")  # we do without it where it is not packaged
        named = {"json-logger": "python-json-logger", "prometheus_client": "prometheus-client"}
        asked = (re.fullmatch(r"python3-(\S+) >= (\S+)", need) for need in needs)
        assert {f"{named.get(found[1], found[1])}-{found[2]}" for found in asked if found} == floors
    assert "libssl" not in "".join(brings)
