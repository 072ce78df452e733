# SPDX-License-Identifier: MIT
"""Nothing loads ssl, socket or threading before gevent's patch, in a fresh interpreter for each way of starting."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bundle import single_file

ROOT = Path(__file__).parents[2]

# Put in front of the program as sitecustomize: notes what is loaded when gevent comes, and when our own modules come.
WATCH = """
import atexit, json, os, sys
seen = {}
def note(event, arguments):
    if event != "import":
        return
    name = arguments[0]
    if name == "gevent" and "before" not in seen:
        seen["before"] = sorted({"ssl", "socket", "threading", "select", "subprocess"} & set(sys.modules))
        seen["ours"] = sorted(m for m in sys.modules if m.startswith("relay"))
    if name.startswith("relay.") and name not in ("relay.bootstrap", "relay.__main__", "relay.signals"):
        monkey = sys.modules.get("gevent.monkey")
        patched = monkey is not None and all(map(monkey.is_module_patched, ("socket", "ssl", "threading", "time")))
        seen.setdefault("unpatched", [])
        if not patched:
            seen["unpatched"].append(name)
        seen.setdefault("loaded", []).append(name)
def say():
    with open(os.environ["WATCH"], "w") as file:
        json.dump(seen, file)
at_start = {"ssl", "socket", "threading"} & set(sys.modules)
seen["at_start"] = sorted(at_start)
sys.addaudithook(note)
atexit.register(say)
"""
CONSOLE = "import re, sys; from relay.bootstrap import console; sys.argv[0] = 'graph-smtp-relay'; sys.exit(console())"
WAYS = {
    "launcher": [str(ROOT / "relay.py")],
    "module": ["-m", "relay"],
    "console": ["-c", CONSOLE],  # as pip writes it into bin/
}


@pytest.mark.parametrize("way", [*WAYS, "single file"])
def test_patch_first(way: str, tmp_path: Path) -> None:
    started = WAYS[way] if way in WAYS else [str(single_file())]
    (tmp_path / "sitecustomize.py").write_text(WATCH, encoding="utf-8")
    found = tmp_path / "seen.json"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "WATCH": str(found), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["GRAPH_SMTP_RELAY_CACHE"] = str(tmp_path / "cache")  # empty: the single file has to unpack
    command = [sys.executable, "-W", "error::RuntimeWarning", *started, "version"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("graph-smtp-relay ")
    seen = json.loads(found.read_text(encoding="utf-8"))
    assert seen["at_start"] == [], "this interpreter's own start-up loads it: the test shows nothing"
    assert seen["before"] == []
    assert set(seen["ours"]) <= {"relay", "relay.bootstrap", "relay.__main__", "relay.signals"}
    assert seen["unpatched"] == []
    assert "relay.cli" in seen["loaded"]


def test_importing_the_package_loads_next_to_nothing() -> None:
    """setup.py and tools read the version without gevent in the way."""
    code = "import sys, relay; assert relay.__version__; print({'ssl', 'socket', 'gevent'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "set()\n"


def why_it_does_not_start(modules: Path) -> str:
    """The one line that the program prints. modules: a directory from which Python imports first."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "relay.py"), "sandbox"],
        cwd=modules,
        env={**os.environ, "PYTHONPATH": str(modules), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("library", "packages"),
    [
        ("gevent", ("python3-gevent", "pip install gevent")),
        ("msal", ("python3-msal", "pip install msal")),
        ("yaml", ("python3-yaml", "pip install PyYAML")),
        ("pythonjsonlogger", ("python3-pythonjsonlogger", "pip install python-json-logger")),
        ("requests", ("python3-requests", "pip install requests")),
        ("cryptography", ("python3-cryptography", "pip install cryptography")),
        ("idna", ("python3-idna", "pip install idna")),
    ],
)
def test_a_missing_library_is_one_line(library: str, packages: tuple[str, str], tmp_path: Path) -> None:
    """Contract: never a traceback; the line names what to install."""
    blocker = f"import sys\nsys.modules[{library!r}] = None\n"
    (tmp_path / "sitecustomize.py").write_text(blocker, encoding="utf-8")
    line = why_it_does_not_start(tmp_path)
    assert line.startswith("graph-smtp-relay: ")
    for words in packages:
        assert words in line


@pytest.mark.parametrize("thing", ["the C++ library", "a whole file"])
def test_a_library_that_cannot_be_loaded_is_one_line(thing: str, tmp_path: Path) -> None:
    """Wheels take little from the system, but a container or a minimal installation may lack even that."""
    if thing == "a whole file":
        module, words = tmp_path / "yaml.abi3.so", "file too short"
        module.touch()
    else:
        module, words = Path("/_greenlet.so"), "apt install libstdc++6 | dnf install libstdc++"
        fault = f"'libstdc++.so.6: cannot open shared object file: No such file', path={str(module)!r}"
        blocker = f"""
import sys
class Blocker:
    def find_spec(name, path, target=None):
        if name == "greenlet":
            raise ImportError({fault})
sys.meta_path.insert(0, Blocker)
"""
        (tmp_path / "sitecustomize.py").write_text(blocker, encoding="utf-8")
    line = why_it_does_not_start(tmp_path)
    assert line.startswith(f"graph-smtp-relay: {module} cannot be loaded: ")
    assert words in line
