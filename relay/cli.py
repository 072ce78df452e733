# SPDX-License-Identifier: MIT
"""The command line: argparse, and one short function a command. Exit codes: 0 fine, 2 usage or config, 1 the rest."""

from __future__ import annotations

import argparse
import getpass
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from relay import __version__, configfile, logs
from relay.clock import Clock
from relay.config import Config
from relay.configfile import ConfigError
from relay.credentials import hash_password

if TYPE_CHECKING:
    from relay.app import Relay

_SYSTEM_CONFIG = Path("/etc/graph-smtp-relay/config.yaml")
_LATER = ("send-test", "encrypt", "service")


def main(arguments: Sequence[str], program: Path | None) -> int:
    """Run one command. program: the file that was started, beside which config.yaml may lie."""
    parser = _parser()
    options, unknown = parser.parse_known_args(_seed_flags(arguments))
    if options.command in _LATER:  # whatever its arguments will be
        print(f"graph-smtp-relay: {options.command}: not available in this version", file=sys.stderr)
        return 2
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        match options.command:
            case "version":
                print(f"graph-smtp-relay {__version__}")
                return 0
            case "hash-password":
                return _hash_password()
            case "tls-cert":
                return _tls_cert(options)
            case "sandbox":
                return _sandbox(options)
            case "check":
                return _check(_config_path(options, program))
            case _:
                return _run(_config_path(options, program))
    except ConfigError as faults:
        print(faults, file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1


def _parser() -> argparse.ArgumentParser:
    # --config is taken before and after the command; what stands behind wins.
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="the configuration file")
    parser = argparse.ArgumentParser(
        prog="graph-smtp-relay",
        parents=[common],
        description="SMTP server for software that knows only user name and password; delivers through Microsoft 365.",
        epilog="Without --config: $GRAPH_SMTP_RELAY_CONFIG, else config.yaml beside the program, else "
        f"{_SYSTEM_CONFIG}.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("run", parents=[common], help="start the relay (the default)")
    commands.add_parser("check", parents=[common], help="check the configuration and say what is wrong with it")
    sandbox = commands.add_parser(
        "sandbox", parents=[common], help="the relay beside a stand-in for Microsoft 365: nothing to configure"
    )
    sandbox.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:2526", help="where to accept SMTP")
    sandbox.add_argument("--save", metavar="DIR", type=Path, help="keep each message as a file in this directory")
    sandbox.add_argument("--log-level", choices=("debug", "info", "warn", "error"), default="warn")
    commands.add_parser("hash-password", parents=[common], help="make a password_hash; reads the password")
    tls_cert = commands.add_parser("tls-cert", parents=[common], help="make a self-signed certificate for SMTP")
    tls_cert.add_argument("--name", metavar="NAME", action="append", help="host name or IP address; may be repeated")
    tls_cert.add_argument("--dir", metavar="DIR", type=Path, default=Path(), help="where to write the two files")
    commands.add_parser("version", parents=[common], help="print the version")
    for name in _LATER:
        commands.add_parser(name, parents=[common])
    return parser


def _seed_flags(arguments: Sequence[str]) -> list[str]:
    """`-service ACTION` and `-encrypt`, as in azureSMTPwithOAuth, become commands."""
    words = {"-service": "service", "-encrypt": "encrypt"}
    return [words.get(argument.replace("--", "-", 1), argument) for argument in arguments]


def _config_path(options: argparse.Namespace, program: Path | None) -> Path:
    given = getattr(options, "config", None) or os.environ.get("GRAPH_SMTP_RELAY_CONFIG")
    if given:
        return Path(given)
    if program is not None:
        beside = program.parent / "config.yaml"
        if beside.exists():
            return beside
    if not _SYSTEM_CONFIG.exists():
        raise ConfigError(
            (
                "graph-smtp-relay: no configuration file found",
                "  1. try it without one, and without an account:  graph-smtp-relay sandbox",
                "  2. copy conf/minimal.yaml to config.yaml, enter three values from Entra ID (docs/entra-setup.md)",
                "  3. check it:  graph-smtp-relay check --config config.yaml",
                "  4. start:      graph-smtp-relay run --config config.yaml",
            )
        )
    return _SYSTEM_CONFIG


def _check(path: Path) -> int:
    config = configfile.load(path)
    for warning in config.warnings:
        print(f"{path}: warning: {warning}")
    print(f"{path}: the configuration is fine")
    return 0


def _run(path: Path) -> int:
    config = configfile.load(path)
    if not _open_log(config):
        return 1
    from relay.app import Relay
    from relay.graph.errors import AppMisconfigured

    try:
        relay = Relay(config, reload=lambda: configfile.load(path))
    except AppMisconfigured as fault:
        raise ConfigError((f"{path}: {fault}",)) from None
    return _serve(relay)


def _sandbox(options: argparse.Namespace) -> int:
    from relay.app import Relay
    from relay.sandbox import console
    from relay.sandbox.capture import summary
    from relay.sandbox.server import Sandbox, SandboxSettings

    with tempfile.TemporaryDirectory(prefix="graph-smtp-relay-sandbox-") as directory:
        upstream = Sandbox(
            SandboxSettings(permissions=frozenset({"Mail.Send", "Mail.ReadWrite"}), save_dir=options.save),
            Path(directory),
            on_message=lambda captured: print(summary(captured), flush=True),
        )
        upstream.start()
        config = configfile.parse(
            console.config_text(options.listen, options.log_level, upstream.url, upstream.ca_file),
            name="sandbox",
            directory=Path(directory),
            environ={},
        )
        if not _open_log(config):
            return 1
        try:
            return _serve(Relay(config), lambda addresses: print(console.how_to_use(addresses), flush=True))
        finally:
            upstream.stop()


def _serve(relay: Relay, started: Callable[[list[str]], None] | None = None) -> int:
    try:
        addresses = relay.start()
    except OSError as fault:
        print(f"graph-smtp-relay: cannot listen on {fault.strerror}", file=sys.stderr)
        return 1
    if started is not None:
        started(addresses)
    relay.run()
    return 0


def _tls_cert(options: argparse.Namespace) -> int:
    from relay.selfsigned import write_pair

    try:
        names = options.name or [socket.getfqdn(), socket.gethostname(), "localhost", "127.0.0.1", "::1"]
        cert_file, key_file = write_pair(options.dir, list(dict.fromkeys(names)), Clock().now())
    except OSError as fault:
        print(f"graph-smtp-relay: {fault.filename}: {fault.strerror}", file=sys.stderr)
        return 1
    print(f"tls:\n  cert_file: {cert_file.absolute()}\n  key_file: {key_file.absolute()}")
    return 0


def _hash_password() -> int:
    """Asks twice on a terminal; else the password's line, once or twice, comes from standard input."""
    if sys.stdin.isatty():
        password, again = getpass.getpass("Password: "), getpass.getpass("Again: ")
    else:
        lines = sys.stdin.read().splitlines()
        password = lines[0] if lines else ""
        again = lines[1] if len(lines) > 1 else password
    if not password or password != again:
        print("graph-smtp-relay: the password is empty, or the two differ", file=sys.stderr)
        return 2
    print(hash_password(password))
    return 0


def _open_log(config: Config) -> bool:
    try:
        logs.set_up(config.log)
    except OSError as fault:
        print(
            f"graph-smtp-relay: the log file {config.log.path} cannot be opened: {fault.strerror}; "
            "change `log` or the rights",
            file=sys.stderr,
        )
        return False
    return True
