# SPDX-License-Identifier: MIT
"""The wheel and the source archive, and what the bundles are said to be made of."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from relay import __version__
from tests.support.bundle import missing, tool
from tests.support.relay_process import CHECKOUT, environment

NAME, STEM = "graph-smtp-relay", f"graph_smtp_relay-{__version__}"
OURS = {path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / "relay").rglob("*.py")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with both, made without fetching anything."""
    place = tmp_path_factory.mktemp("built")
    command = [tool("python"), "-m", "build", "--no-isolation", "--outdir", str(place), str(CHECKOUT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return place


def started(place: Path, *command: str) -> str:
    ended = subprocess.run(
        [sys.executable, *command, "version"],
        cwd=place,
        env=environment({"PYTHONPATH": str(place), "PYTHONSAFEPATH": "1"}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stderr == ""
    return ended.stdout.strip()


def test_the_wheel(built: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(built / f"{STEM}-py3-none-any.whl") as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        wheel.extractall(tmp_path)
        entry_points = wheel.read(f"{STEM}.dist-info/entry_points.txt").decode()
    units = {f"relay/units/{NAME}.{kind}" for kind in ("init", "service")}
    assert names == OURS | units | {"relay/admin/admin.css", "relay/admin/admin.js"}, "no relay.py, no tests"
    assert "graph-smtp-relay = relay.bootstrap:console" in entry_points
    assert started(tmp_path, "-m", "relay") == f"{NAME} {__version__}"


def test_the_source_archive(built: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "-x", "-f", str(built / f"{STEM}.tar.gz"), "-C", str(tmp_path)], check=True)
    root = tmp_path / STEM
    kept = {path.relative_to(root).as_posix() for path in root.rglob("*")}
    assert {"Makefile", "relay.py", "conf/config.yaml", "docs/install.md", "packaging/build_pyz.py", *OURS} <= kept
    assert "tests/packaging/test_distributions.py" in kept
    assert not [name for name in kept if re.search(r"__pycache__|node_modules|\.venv|(^|/)dist/|\.pyc$", name)]
    assert started(root, "relay.py") == f"{NAME} {__version__}"


@pytest.fixture(scope="module")
def bill() -> dict[str, Any]:
    """The bill of materials, made anew from the wheels of the last build."""
    if not (CHECKOUT / "build" / "wheels").is_dir():
        missing("the wheels are not there: make pyz")
    code = "import json, bill; from libraries import TARGETS; print(json.dumps(bill.materials(TARGETS)))"
    made = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT / "packaging",
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    found: dict[str, Any] = json.loads(made.stdout)
    return found


def test_the_bill_of_materials_is_what_the_lock_file_says(bill: dict[str, Any]) -> None:
    lock = (CHECKOUT / "packaging" / "requirements" / "runtime.txt").read_text("utf-8")
    pins = set(re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE))
    components = bill["components"]
    assert {(component["name"], component["version"]) for component in components} == pins
    for component in components:
        assert component["licenses"][0]["license"]["name"]
        for wheel in component["externalReferences"]:
            assert wheel["hashes"][0]["content"] in lock, wheel["url"]
    refs = {component["bom-ref"] for component in components}
    assert {edge["ref"] for edge in bill["dependencies"]} == refs | {NAME}
    (root,) = (edge for edge in bill["dependencies"] if edge["ref"] == NAME)
    direct = {ref.partition("/")[2].partition("@")[0] for ref in root["dependsOn"]}
    assert {"gevent", "msal", "requests", "pyyaml", "cryptography"} <= direct
    assert "greenlet" not in direct


def test_the_bill_of_materials_is_cyclonedx(bill: dict[str, Any]) -> None:
    check = (
        "import sys; from cyclonedx.schema import SchemaVersion; "
        "from cyclonedx.validation.json import JsonStrictValidator; "
        "sys.exit(JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read()) and 1)"
    )
    checked = subprocess.run(
        [tool("python"), "-c", check], input=json.dumps(bill), capture_output=True, text=True, timeout=60, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
