# SPDX-License-Identifier: MIT
"""The command line: argparse, and one short function a command. Exit codes: 0 fine, 2 usage or config, 1 the rest."""

from __future__ import annotations

import argparse
import getpass
import os
import signal
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
_LATER = ("send-test", "service")


def main(arguments: Sequence[str], program: Path | None) -> int:
    """Run one command. program: the file that was started, beside which config.yaml may lie."""
    parser = _parser()
    options, unknown = parser.parse_known_args(_seed_flags(arguments), argparse.Namespace(key_file=None))
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
            case "encrypt" | "decrypt":
                return _crypt(options, _config_path(options, program))
            case "tls-cert":
                return _tls_cert(options)
            case "sandbox":
                return _sandbox(options)
            case "check":
                return _check(_config_path(options, program), options.key_file)
            case _:
                return _run(_config_path(options, program), options.key_file)
    except ConfigError as faults:
        print(faults, file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1


def _parser() -> argparse.ArgumentParser:
    # --config is taken before and after the command; what stands behind wins.
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="the configuration file")
    common.add_argument("--key-file", metavar="FILE", default=argparse.SUPPRESS, help="the key of encrypted values")
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
    commands.add_parser("encrypt", parents=[common], help="encrypt the secrets in the configuration file, in place")
    commands.add_parser("decrypt", parents=[common], help="put them back in clear")
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


def _check(path: Path, key_file: str | None) -> int:
    config = configfile.load(path, key_file=key_file)
    for warning in config.warnings:
        print(f"warning: {warning}")
    print(f"{path}: the configuration is fine")
    return 0


def _mind_signals() -> None:
    """Until the relay listens to signals itself: a stop is no fault, and a reload has nothing to reload yet."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def _run(path: Path, key_file: str | None) -> int:
    _mind_signals()
    config = configfile.load(path, key_file=key_file)
    if not _open_log(config):
        return 1
    from relay.app import Relay
    from relay.graph.errors import AppMisconfigured

    try:
        relay = Relay(config, reload=lambda: configfile.load(path, key_file=key_file))
    except AppMisconfigured as fault:
        raise ConfigError((f"{path}: {fault}",)) from None
    return _serve(relay)


def _sandbox(options: argparse.Namespace) -> int:
    from relay.app import Relay
    from relay.sandbox import console
    from relay.sandbox.capture import summary
    from relay.sandbox.server import Sandbox, SandboxSettings

    _mind_signals()
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
    from relay.selfsigned import BadName, write_pair

    try:
        names = options.name or [socket.getfqdn(), socket.gethostname(), "localhost", "127.0.0.1", "::1"]
        cert_file, key_file = write_pair(options.dir, list(dict.fromkeys(names)), Clock().now())
    except OSError as fault:
        print(f"graph-smtp-relay: {fault.filename}: {fault.strerror}", file=sys.stderr)
        return 1
    except BadName as fault:
        print(f"graph-smtp-relay: --name {fault}: neither a host name nor an IP address", file=sys.stderr)
        return 2
    print(f"tls:\n  cert_file: {cert_file.absolute()}\n  key_file: {key_file.absolute()}")
    return 0


def _hash_password() -> int:
    """Asks twice on a terminal; else the password's line, once or twice, comes from standard input."""
    if sys.stdin.isatty():
        password, again = getpass.getpass("Password: "), getpass.getpass("Again: ")
    else:
        lines = [line.removesuffix("\r") for line in sys.stdin.read().split("\n")]
        password = lines[0]
        again = (lines[1] if len(lines) > 1 else "") or password
    if not password or password != again:
        print("graph-smtp-relay: the password is empty, or the two differ", file=sys.stderr)
        return 2
    print(hash_password(password))
    return 0


def _crypt(options: argparse.Namespace, path: Path) -> int:
    from relay.configcrypt import decrypt_file, encrypt_file
    from relay.configyaml import YamlFault
    from relay.vault import Vault, VaultFault, key_file

    vault = Vault(key_file(options.key_file, os.environ))
    try:
        if options.command == "encrypt" and vault.make_key():
            print(f"made the key file {vault.path}: keep it apart from the configuration, and keep a copy")
        changed = (encrypt_file if options.command == "encrypt" else decrypt_file)(path, vault)
    except YamlFault as fault:
        raise ConfigError((f"{path}:{fault.line}: {fault}",)) from None
    except VaultFault as fault:
        raise ConfigError((f"{path}: {fault}",)) from None
    except OSError as fault:
        raise ConfigError((f"{path}: {fault.strerror}",)) from None
    print(f"{path}: {changed} {'secret' if changed == 1 else 'secrets'} {options.command}ed")
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
