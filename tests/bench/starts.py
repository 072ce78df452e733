# SPDX-License-Identifier: MIT
"""How long each form takes from exec to its first 220, and what it takes on the disk. After `make pyz rpm`:

    .venv/bin/python tests/bench/starts.py [ROUNDS]

Cold: the single file unpacks first, and Python compiles. Warm: a start later. The best of all rounds is printed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = f"/usr/bin/python3.{sys.version_info.minor}"
CONFIG = """\
listen_addr: 127.0.0.1:{port}
log_level: error
oauth2_config: {{client_id: a, client_secret: b, tenant_id: c}}
"""


def first_220_s(command: list[str], env: dict[str, str], config: Path) -> tuple[float, float]:
    """Seconds from exec to the greeting: by the clock, and of the processor; much the same on an idle machine."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config.write_text(CONFIG.format(port=port))
    start = time.perf_counter()
    process = subprocess.Popen([*command, "run", "--config", str(config)], env={**os.environ, **env})
    try:
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port)) as connection:
                    assert connection.recv(3) == b"220"
                    passed = time.perf_counter() - start
                    ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
                    return passed, sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
            except ConnectionRefusedError:
                assert process.poll() is None
                time.sleep(0.002)
    finally:
        process.terminate()
        process.wait()


def size_mib(*paths: Path) -> float:
    files = (file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())
    return sum(file.stat().st_size for file in files) / 1048576


def main() -> None:
    rounds = int(sys.argv[1]) if sys.argv[1:] else 5
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        cache, tree, config = place / "cache", place / "rpm", place / "config.yaml"
        tree.mkdir()
        (rpm,) = (ROOT / "dist").glob(f"*.el9.{os.uname().machine}.rpm")
        packed = subprocess.run(["rpm2cpio", str(rpm)], check=True, capture_output=True).stdout
        subprocess.run(["cpio", "-idm", "--quiet"], input=packed, cwd=tree, check=True)
        lib = tree / "usr/lib/graph-smtp-relay"
        pyz = ROOT / "dist/graph-smtp-relay.pyz"
        launch = f"import sys; sys.path[0] = {str(lib)!r}; from relay.bootstrap import console; console()"
        forms: dict[str, tuple[list[str], dict[str, str], Callable[[], None]]] = {
            "checkout": ([sys.executable, str(ROOT / "relay.py")], {}, lambda: None),
            "single file, cold": (
                [PYTHON, str(pyz)],
                {"GRAPH_SMTP_RELAY_CACHE": str(cache)},
                lambda: shutil.rmtree(cache, ignore_errors=True),
            ),
            "single file, warm": ([PYTHON, str(pyz)], {"GRAPH_SMTP_RELAY_CACHE": str(cache)}, lambda: None),
            "RPM": ([PYTHON, "-c", launch], {}, lambda: None),
        }
        for name, (command, env, prepare) in forms.items():
            times = []
            for _ in range(rounds):
                prepare()
                times.append(first_220_s(command, env, config))
            clock, processor = (min(column) for column in zip(*times, strict=True))
            print(f"{name}: {clock:.2f} s, processor {processor:.2f} s", flush=True)
        print(f"{pyz.name}: {size_mib(pyz):.1f} MiB, unpacked and compiled {size_mib(cache):.1f} MiB")
        print(f"{rpm.name}: {size_mib(rpm):.1f} MiB, installed {size_mib(tree):.1f} MiB")


if __name__ == "__main__":
    main()
