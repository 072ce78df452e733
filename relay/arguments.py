# SPDX-License-Identifier: MIT
"""The words of the command line: commands, options, their help. Carries nothing out: cli.py does."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

SYSTEM_CONFIG = Path("/etc/graph-smtp-relay/config.yaml")

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def parser_of() -> argparse.ArgumentParser:
    """For all commands."""
    # --config is taken before and after the command; what stands behind wins.
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="the configuration file")
    common.add_argument("--key-file", metavar="FILE", default=argparse.SUPPRESS, help="the key of encrypted values")
    parser = argparse.ArgumentParser(
        prog="graph-smtp-relay",
        parents=[common],
        description="SMTP server for software that knows only user name and password; delivers through Microsoft 365.",
        epilog="Without --config: $GRAPH_SMTP_RELAY_CONFIG, else config.yaml beside the program, else "
        f"{SYSTEM_CONFIG}.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("run", parents=[common], help="start the relay (the default)")
    _add_check(commands, common)
    _add_send_test(commands, common)
    _add_init(commands, common)
    service = commands.add_parser("service", parents=[common], help="install and control the system service")
    service.add_argument("action", choices=("install", "start", "stop", "status", "uninstall"))
    sandbox = commands.add_parser(
        "sandbox", parents=[common], help="the relay beside a stand-in for Microsoft 365: nothing to configure"
    )
    sandbox.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:2526", help="where to accept SMTP")
    sandbox.add_argument("--admin", metavar="HOST:PORT", default="", help="show the admin page and the mails there")
    sandbox.add_argument("--save", metavar="DIR", type=Path, help="keep each message as a file in this directory")
    sandbox.add_argument("--log-level", choices=("debug", "info", "warn", "error"), default="warn")
    commands.add_parser("encrypt", parents=[common], help="encrypt the secrets in the configuration file, in place")
    commands.add_parser("decrypt", parents=[common], help="put them back in clear")
    commands.add_parser("hash-password", parents=[common], help="make a password_hash; reads the password")
    tls_cert = commands.add_parser("tls-cert", parents=[common], help="make a self-signed certificate for SMTP")
    tls_cert.add_argument("--name", metavar="NAME", action="append", help="host name or IP address; may be repeated")
    tls_cert.add_argument("--dir", metavar="DIR", type=Path, default=Path(), help="where to write the two files")
    commands.add_parser("version", parents=[common], help="print the version")
    return parser


def _add_login(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user", metavar="USER", help="log in as; default: fallback_smtp_user")
    parser.add_argument("--password-file", metavar="FILE", help="file with the password; - reads standard input")


def _add_check(commands: _Commands, common: argparse.ArgumentParser) -> None:
    check = commands.add_parser("check", parents=[common], help="check the configuration and say what is wrong with it")
    check.add_argument("--online", action="store_true", help="get a token too, and say step by step what works")
    check.add_argument("--send-to", metavar="ADDR", help="send a test mail there at the end; implies --online")
    check.add_argument("--json", action="store_true", help="the steps as JSON; implies --online")
    _add_login(check)


def _add_send_test(commands: _Commands, common: argparse.ArgumentParser) -> None:
    send_test = commands.add_parser(
        "send-test", parents=[common], help="send a mail through the running relay, as a device would"
    )
    send_test.add_argument("--to", metavar="ADDR", required=True, help="who gets it")
    send_test.add_argument("--from", metavar="ADDR", dest="sender", help="sender; default: the user, else --to")
    send_test.add_argument("--attach", metavar="FILE", type=Path, help="a file to attach")
    _add_login(send_test)


def _add_init(commands: _Commands, common: argparse.ArgumentParser) -> None:
    init = commands.add_parser(
        "init", parents=[common], help="ask for the three values, write the configuration, check it online"
    )
    init.add_argument("--tenant-id", metavar="ID")
    init.add_argument("--client-id", metavar="ID")
    init.add_argument("--client-secret-file", metavar="FILE", help="- reads standard input")
    init.add_argument("--offline", action="store_true", help="do not try the values")


def seed_flags(arguments: Sequence[str]) -> list[str]:
    """`-service ACTION` and `-encrypt`, as in azureSMTPwithOAuth, become commands."""
    words = {"-service": "service", "-encrypt": "encrypt"}
    return [words.get(argument.replace("--", "-", 1), argument) for argument in arguments]
