# SPDX-License-Identifier: MIT
"""The sandbox as a process of its own: `python tests/support/upstream.py --dir D [--settings JSON]`.

Prints one line of JSON with url and ca_file when it is ready, and runs until SIGTERM.
"""

# ruff: noqa: E402 - the patch comes before everything that it changes
from gevent import monkey

monkey.patch_all()

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event

sys.path.insert(0, str(Path(__file__).parents[2]))

from relay.sandbox.server import Sandbox, SandboxSettings


def read_settings(text: str) -> SandboxSettings:
    """The settings in a JSON object, control switched on."""
    values: dict[str, Any] = {"control": True, **json.loads(text)}
    for name in ("permissions", "mailboxes"):
        if values.get(name) is not None:
            values[name] = frozenset(values[name])
    if values.get("save_dir"):
        values["save_dir"] = Path(values["save_dir"])
    return SandboxSettings(**values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="where the certificates go")
    parser.add_argument("--settings", default="{}", help="fields of SandboxSettings as a JSON object")
    options = parser.parse_args()
    sandbox = Sandbox(read_settings(options.settings), options.dir)
    stopped = Event()
    gevent.signal_handler(signal.SIGTERM, stopped.set)
    sandbox.start()
    print(json.dumps({"url": sandbox.url, "ca_file": str(sandbox.ca_file)}), flush=True)
    stopped.wait()
    sandbox.stop()


if __name__ == "__main__":
    main()
