# SPDX-License-Identifier: MIT
"""run(): patch the standard library for gevent, and only then load the rest of the program."""

from __future__ import annotations

import sys
from pathlib import Path

from relay import signals

_PACKAGES = {
    # import name: what pip, apt and dnf call it
    "gevent": ("gevent", "python3-gevent", "python3-gevent"),
    "msal": ("msal", "python3-msal", "python3-msal"),
    "requests": ("requests", "python3-requests", "python3-requests"),
    "yaml": ("PyYAML", "python3-yaml", "python3-pyyaml"),
    "pythonjsonlogger": ("python-json-logger", "python3-pythonjsonlogger", "python3-json-logger"),
    "cryptography": ("cryptography", "python3-cryptography", "python3-cryptography"),
    "prometheus_client": ("prometheus-client", "python3-prometheus-client", "python3-prometheus_client"),
    "idna": ("idna", "python3-idna", "python3-idna"),
}
_ADVICE = {  # for what our libraries' wheels take from the system, beside the C library
    "libstdc++.so.6": "; install it with one of: apt install libstdc++6 | dnf install libstdc++",
    "libgcc_s.so.1": "; install it with one of: apt install libgcc-s1 | dnf install libgcc",
}


def run(program: Path | None = None) -> int:
    """The program's exit code. program: the file that was started, beside which config.yaml may lie."""
    signals.hold_back()
    try:
        from gevent import monkey

        # Sockets, locks and time.sleep of everything loaded from here on yield to other greenlets.
        monkey.patch_all()
        from relay import cli, malloc

        malloc.keep_some()
        return cli.main(sys.argv[1:], program)  # which loads what its command needs
    except ModuleNotFoundError as missing:
        name = (missing.name or "").partition(".")[0]
        if name not in _PACKAGES:
            raise
        pip, apt, dnf = _PACKAGES[name]
        print(
            f"graph-smtp-relay: the library {pip} is missing; install it with one of: "
            f"apt install {apt} | dnf install {dnf} | pip install {pip}",
            file=sys.stderr,
        )
        return 1
    except ImportError as fault:
        if not (fault.path or "").endswith(".so"):
            raise
        advice = _ADVICE.get(fault.msg.partition(":")[0], "")
        print(f"graph-smtp-relay: {fault.path} cannot be loaded: {fault.msg}{advice}", file=sys.stderr)
        return 1


def console() -> None:
    """The console command."""
    sys.exit(run())
