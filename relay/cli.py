# SPDX-License-Identifier: MIT
"""The command line: argparse, and one short function a command. Exit codes: 0 fine, 2 usage or config, 1 the rest.

The two commands that serve, run and sandbox, are in serve.py.
"""

from __future__ import annotations

import argparse
import getpass
import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

from relay import configfile, serve, signals
from relay.arguments import SYSTEM_CONFIG, VERSION, parser_of, seed_flags
from relay.clock import Clock
from relay.config import Config
from relay.configfile import ConfigError
from relay.credentials import Secret, hash_password
from relay.identity import Credentials


def main(arguments: Sequence[str], program: Path | None) -> int:
    """Run one command. program: the file that was started, beside which config.yaml may lie."""
    parser = parser_of()
    options, unknown = parser.parse_known_args(seed_flags(arguments), argparse.Namespace(key_file=None))
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")

    def config_path() -> Path:
        return _config_path(options, program)

    commands: dict[str, Callable[[], int]] = {
        "version": _version,
        "hash-password": _hash_password,
        "encrypt": lambda: _crypt(options, config_path()),
        "decrypt": lambda: _crypt(options, config_path()),
        "tls-cert": lambda: _tls_cert(options),
        "sandbox": lambda: serve.sandbox(options),
        "init": lambda: _init(options, program),
        "service": lambda: _service(options, program),
        "send-test": lambda: _send_test(options, config_path()),
        "check": lambda: _check(options, config_path()),
        "migrate": lambda: _migrate(options),
        "run": lambda: serve.run(config_path(), options.key_file, getattr(options, "debug_session", None) or ""),
    }
    try:
        if options.command not in (None, "run", "sandbox"):  # bootstrap.py holds them back
            signals.let_come()
        return commands[options.command or "run"]()
    except ConfigError as faults:
        print(faults, file=sys.stderr)
        return 2
    except (BrokenPipeError, KeyboardInterrupt):  # who read us is gone, or who typed gave up
        return 1


def _version() -> int:
    print(VERSION)
    return 0


def _config_path(options: argparse.Namespace, program: Path | None) -> Path:
    given = getattr(options, "config", None) or os.environ.get("GRAPH_SMTP_RELAY_CONFIG")
    if given:
        return Path(given)
    if program is not None:
        beside = program.parent / "config.yaml"
        if beside.exists():
            return beside
    if not SYSTEM_CONFIG.exists():
        raise ConfigError(
            (
                "graph-smtp-relay: no configuration file found",
                "  1. try it without one, and without an account:  graph-smtp-relay sandbox",
                "  2. enter three values from Entra ID (docs/entra-setup.md):  graph-smtp-relay init",
                "  3. check it:  graph-smtp-relay check --online",
                "  4. start it:  graph-smtp-relay run",
                *(f"  every key, with its default: {example}" for example in _examples(program) if example.exists()),
            )
        )
    return SYSTEM_CONFIG


def _examples(program: Path | None) -> tuple[Path, ...]:
    """Where a configuration with every key may lie."""
    beside = (program.parent / "conf" / "config.yaml",) if program is not None else ()
    return (*beside, Path("/usr/share/doc/graph-smtp-relay/examples/config.yaml"))


def _check(options: argparse.Namespace, path: Path) -> int:
    config = configfile.load(path, key_file=options.key_file)
    if options.json:
        return _check_online(config, options)
    for warning in (*config.warnings, *_warnings_of_secret(config.entra.secret_expires)):
        print(f"warning: {warning}")
    print(f"{path}: the configuration is fine")
    return _check_online(config, options) if options.online or options.send_to else 0


def _warnings_of_secret(expires: str) -> tuple[str, ...]:
    from relay.stats import WARN_DAYS, secret_warning

    days = (date.fromisoformat(expires) - Clock().now().date()).days if expires else None
    return (secret_warning(days),) if days is not None and days <= WARN_DAYS else ()


def _check_online(config: Config, options: argparse.Namespace | None = None) -> int:
    from relay.greenlets import guard
    from relay.online import OnlineCheck

    # The steps say it. Without a handler, stderr would get events, and from msal what Entra ID answered.
    logging.getLogger().addHandler(logging.NullHandler())
    login = _login(options) if options else None
    steps = []
    for step in OnlineCheck(config, guard, login, (options.send_to if options else None) or "").steps():
        steps.append(step)
        if not (options and options.json):
            print(step.line(), flush=True)
    if options and options.json:
        print(json.dumps([step.as_json() for step in steps], indent=2))
    return 1 if any(step.outcome == "failed" for step in steps) else 0


def _login(options: argparse.Namespace) -> Credentials | None:
    """--user and --password-file. Raises ConfigError."""
    if not options.user and not options.password_file:
        return None
    if not options.user or not options.password_file:
        raise ConfigError(("graph-smtp-relay: --user and --password-file go together",))
    return Credentials(options.user, Secret(_first_line(options.password_file)))


def _first_line(name: str) -> str:
    """The first line of a file, or of standard input for `-`. Raises ConfigError."""
    try:
        text = _standard_input() if name == "-" else Path(name).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        reason = "is not UTF-8 text"
    except (OSError, ValueError) as fault:
        reason = f"cannot be read: {getattr(fault, 'strerror', None) or 'no file can have this name'}"
    else:
        return (text.splitlines() or [""])[0]
    raise ConfigError((f"{name}: {reason}",))


def _standard_input() -> str:
    """Raises ConfigError."""
    try:
        return sys.stdin.read() if sys.stdin is not None else ""
    except UnicodeDecodeError:
        raise ConfigError(("standard input: is not UTF-8 text",)) from None


def _send_test(options: argparse.Namespace, path: Path) -> int:
    from relay.sendtest import NotSent, Order, send

    config = configfile.load(path, key_file=options.key_file)
    login = _login(options)
    access = config.access
    if login is None and access.fallback_user and access.fallback_password and config.entra.flow == "password":
        login = Credentials(access.fallback_user, access.fallback_password)
    sender = options.sender or _mailbox_of(config, login) or options.to
    try:
        send(config, Order(options.to, sender, options.attach, login), lambda line: print(line, flush=True))
    except NotSent as refusal:
        print(f"graph-smtp-relay: {refusal}", file=sys.stderr)
        return 1
    return 0


def _mailbox_of(config: Config, login: Credentials | None) -> str:
    """The address that may write with this login; empty where the configuration does not say."""
    if config.entra.flow == "password":
        return login.user if login and "@" in login.user else ""
    if config.entra.flow == "client_login" or login is None:
        return config.accounts.default_mailbox  # its user name is none, for all its @
    name = login.user.strip().casefold()
    return next((user.mailbox for user in config.accounts.users if user.username.casefold() == name), "")


def _init(options: argparse.Namespace, program: Path | None) -> int:
    from relay.setup import SetupFailed, collect, write

    named = getattr(options, "config", None) or os.environ.get("GRAPH_SMTP_RELAY_CONFIG")
    path = Path(named) if named else (program.parent / "config.yaml" if program else SYSTEM_CONFIG)
    given = {"tenant_id": options.tenant_id or "", "client_id": options.client_id or ""}
    if options.client_secret_file:
        given["client_secret"] = _first_line(options.client_secret_file)
    try:
        is_terminal = sys.stdin is not None and sys.stdin.isatty()
        write(path, collect(given, input, getpass.getpass if is_terminal else input))
    except (EOFError, RuntimeError):  # the latter: standard input is closed
        print("graph-smtp-relay: no answer; give the values as options (--help lists them)", file=sys.stderr)
        return 2
    except SetupFailed as fault:
        print(f"graph-smtp-relay: {fault}", file=sys.stderr)
        return 2
    print(f"{path}: written; only you can read it")
    config = configfile.load(path)
    return 0 if options.offline else _check_online(config)


def _migrate(options: argparse.Namespace) -> int:
    """1 where the new configuration wants something that only the administrator knows."""
    from relay.migrate import CannotMigrate, migrated
    from relay.setup import SetupFailed, write_new

    try:
        text, notes = migrated(options.program, options.path, options.mailbox)
        if options.output:
            write_new(options.output, text, "--output")
    except (CannotMigrate, SetupFailed) as fault:
        print(f"graph-smtp-relay: {fault}", file=sys.stderr)
        return 2
    if not options.output:
        sys.stdout.write(text)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    name, directory = (str(options.output), options.output.parent) if options.output else ("output", Path())
    try:
        config = configfile.parse(text, name=name, directory=directory, environ=os.environ, key_file=options.key_file)
    except ConfigError as faults:
        print(f"to be mended by hand:\n{faults}", file=sys.stderr)
        return 1
    for warning in config.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def _service(options: argparse.Namespace, program: Path | None) -> int:
    from relay import serviceunit

    named = getattr(options, "config", None) or os.environ.get("GRAPH_SMTP_RELAY_CONFIG")
    config = Path(named).absolute() if named else SYSTEM_CONFIG
    try:
        return serviceunit.control(options.action, program, config, print)
    except serviceunit.ServiceFault as fault:
        print(f"graph-smtp-relay: {fault}", file=sys.stderr)
        return 1


def _tls_cert(options: argparse.Namespace) -> int:
    from relay.selfsigned import BadName, write_pair

    try:
        names = options.name or [socket.getfqdn(), socket.gethostname(), "localhost", "127.0.0.1", "::1"]
        cert_file, key_file = write_pair(options.dir, list(dict.fromkeys(names)), Clock().now())
    except FileExistsError as fault:
        print(f"graph-smtp-relay: {fault.filename}: is there already; move it away first", file=sys.stderr)
        return 1
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
    if sys.stdin is not None and sys.stdin.isatty():  # None: it is closed
        try:
            password, again = getpass.getpass("Password: "), getpass.getpass("Again: ")
        except EOFError:
            password = again = ""
    else:
        lines = [line.removesuffix("\r") for line in _standard_input().split("\n")]
        password = lines[0]
        again = (lines[1] if len(lines) > 1 else "") or password
    if not password or password != again:
        print("graph-smtp-relay: the password is empty, or the two differ", file=sys.stderr)
        return 2
    print(hash_password(password))
    return 0


def _crypt(options: argparse.Namespace, path: Path) -> int:
    from relay.configcrypt import check_file, decrypt_file, encrypt_file
    from relay.configyaml import YamlFault
    from relay.vault import Vault, VaultFault, key_file

    vault = Vault(key_file(options.key_file, os.environ))
    try:
        check_file(path)  # no key is made for a file that cannot be encrypted
        if options.command == "encrypt" and vault.make_key():
            print(f"made the key file {vault.path}: keep it apart from the configuration, and keep a copy")
        changed = (encrypt_file if options.command == "encrypt" else decrypt_file)(path, vault)
    except YamlFault as fault:
        raise ConfigError((f"{path}:{fault.line}: {fault}",)) from None
    except VaultFault as fault:
        raise ConfigError((f"{path}: {fault}",)) from None
    except OSError as fault:
        raise ConfigError((f"{fault.filename or path}: {fault.strerror}",)) from None
    print(f"{path}: {changed} {'secret' if changed == 1 else 'secrets'} {options.command}ed")
    return 0
