# SPDX-License-Identifier: MIT
"""The words of the command line: commands, options, their help. Carries nothing out: cli.py does.

The man page and the completion for bash are made from this (packaging/make_command_docs.py), so each option says in its
metavar what it takes: FILE, DIR, ADDR and the like.
"""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Callable, Sequence
from pathlib import Path

from relay import __version__

VERSION = f"graph-smtp-relay {__version__}"
SYSTEM_CONFIG = Path("/etc/graph-smtp-relay/config.yaml")
SERVICE_ACTIONS = ("install", "start", "stop", "status", "uninstall")
MIGRATE_FROM = ("azuresmtpwithoauth", "smtp2graph", "smtp-oauth-relay")

_Add = Callable[..., argparse.ArgumentParser]


def parser_of() -> argparse.ArgumentParser:
    """For all commands."""
    # --config is taken before and after the command; what stands behind wins.
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="the configuration file")
    common.add_argument(
        "--key-file", metavar="FILE", default=argparse.SUPPRESS, help="the key of encrypted values (enc:)"
    )
    parser = argparse.ArgumentParser(
        prog="graph-smtp-relay",
        parents=[common],
        description="SMTP server for software that knows only user name and password; delivers through Microsoft 365.",
        epilog="Without --config: $GRAPH_SMTP_RELAY_CONFIG, else config.yaml beside the program, else "
        f"{SYSTEM_CONFIG}. graph-smtp-relay COMMAND --help says more of a command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=VERSION, help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def add(name: str, summary: str, description: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            parents=[common],
            help=summary,
            description=description or f"{summary[0].upper()}{summary[1:]}.",
            allow_abbrev=False,
        )

    _add_run(add)
    _add_check(add)
    _add_send_test(add)
    _add_init(add)
    _add_migrate(add)
    _add_service(add)
    _add_sandbox(add)
    _add_secrets(add)
    _add_tls_cert(add)
    add("version", "print the version", "Print the version; --version does the same.")
    return parser


def _add_run(add: _Add) -> None:
    run = add("run", "start the relay (the default)", "Start the relay; SIGTERM ends it, SIGHUP reloads it.")
    run.add_argument(
        "--debug-session",
        metavar="ADDR",
        type=_ip_address,
        help="log the whole dialogue with this client's IP address, whatever log_level says; secrets are left out",
    )


def _add_login(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user", metavar="USER", help="log in as; default: fallback_smtp_user")
    parser.add_argument("--password-file", metavar="FILE", help="file with the password; - reads standard input")


def _add_check(add: _Add) -> None:
    check = add(
        "check",
        "check the configuration and say what is wrong with it",
        "Check the configuration: one line a fault, all at once. With --online, try each step to the mailbox.",
    )
    check.add_argument("--online", action="store_true", help="get a token too, and say step by step what works")
    check.add_argument(
        "--send-to", metavar="ADDR", type=_mail_address, help="send a test mail there at the end; implies --online"
    )
    check.add_argument("--json", action="store_true", help="print the steps as JSON; implies --online")
    _add_login(check)


def _add_send_test(add: _Add) -> None:
    send_test = add("send-test", "send a mail through the running relay, as a device would")
    send_test.add_argument("--to", metavar="ADDR", type=_mail_address, required=True, help="who gets it")
    send_test.add_argument(
        "--from",
        metavar="ADDR",
        type=_mail_address,
        dest="sender",
        help="sender; default: the mailbox of the login, else --to",
    )
    send_test.add_argument("--attach", metavar="FILE", type=Path, help="a file to attach")
    _add_login(send_test)


def _add_init(add: _Add) -> None:
    init = add(
        "init",
        "ask for the three values, write the configuration, check it online",
        "Write a new configuration file, readable for its owner alone, and check it online. What the options do not "
        "give is asked for. A file that is there already is never overwritten.",
    )
    init.add_argument("--tenant-id", metavar="ID", help="directory (tenant) ID")
    init.add_argument("--client-id", metavar="ID", help="application (client) ID")
    init.add_argument("--client-secret-file", metavar="FILE", help="file with the secret; - reads standard input")
    init.add_argument("--offline", action="store_true", help="do not try the values")


def _add_migrate(add: _Add) -> None:
    migrate = add(
        "migrate",
        "turn another relay's configuration into one for this program",
        "Read another relay's configuration (YAML, or environment variables in a file) and write one for this program. "
        "What has no counterpart is said on standard error.",
    )
    migrate.add_argument("path", metavar="FILE", type=Path, help="their configuration")
    migrate.add_argument(
        "--from", dest="program", choices=MIGRATE_FROM, required=True, help="the program that it belongs to"
    )
    migrate.add_argument(
        "--output", metavar="FILE", type=Path, help="a new file, readable for its owner alone; default: standard output"
    )
    migrate.add_argument("--mailbox", metavar="ADDR", default="", help="the mailbox that sends where theirs names none")


def _add_service(add: _Add) -> None:
    service = add(
        "service",
        "install and control the system service",
        "Install, start, stop, show or remove the system service: a systemd unit, or an init script where there is no "
        "systemd.",
    )
    service.add_argument("action", choices=SERVICE_ACTIONS, help="what to do with the service")


def _add_sandbox(add: _Add) -> None:
    sandbox = add(
        "sandbox",
        "the relay beside a stand-in for Microsoft 365: nothing to configure",
        "Start the relay beside a stand-in for Microsoft 365 on loopback: no account, no configuration, nothing leaves "
        "the machine. It takes any login, and mail without one. With --config, addresses, TLS, limits and networks are "
        "those of the file; its logins and its way to Microsoft are not used, and may be left out.",
    )
    sandbox.add_argument(
        "--listen", metavar="HOST:PORT", default="", help="where to accept SMTP; default: 127.0.0.1:2526"
    )
    sandbox.add_argument("--admin", metavar="HOST:PORT", default="", help="show the admin page and the mails there")
    sandbox.add_argument("--save", metavar="DIR", type=Path, help="keep each message as a file in this directory")
    sandbox.add_argument(
        "--log-level", choices=("debug", "info", "warn", "error"), default="warn", help="the least severe lines shown"
    )


def _add_secrets(add: _Add) -> None:
    add(
        "encrypt",
        "encrypt the secrets in the configuration file, in place",
        "Encrypt the secrets in the configuration file, in place. The key is that of --key-file, "
        "$GRAPH_SMTP_RELAY_KEY_FILE, $CREDENTIALS_DIRECTORY/key or /etc/graph-smtp-relay/secret.key, in this order; it "
        "is made where there is none.",
    )
    add("decrypt", "put them back in clear", "Put the encrypted secrets in the configuration file back in clear.")
    add(
        "hash-password",
        "make a password_hash; reads the password",
        "Make a password_hash for users or the admin page. Asks twice on a terminal, else reads the password's line "
        "from standard input.",
    )


def _add_tls_cert(add: _Add) -> None:
    tls_cert = add(
        "tls-cert",
        "make a self-signed certificate for SMTP",
        "Make a self-signed certificate and its key, and print the configuration for them. Nothing is overwritten.",
    )
    tls_cert.add_argument(
        "--name",
        metavar="NAME",
        action="append",
        help="host name or IP address; may be repeated; default: this machine",
    )
    tls_cert.add_argument(
        "--dir", metavar="DIR", type=Path, default=Path(), help="where to write the two files; default: here"
    )


def _mail_address(text: str) -> str:
    """As it is, where it can stand in one line: what else is wrong with it, the relay or Microsoft will say."""
    if not text or not text.isprintable():
        raise argparse.ArgumentTypeError("must be a mail address")
    return text


def _ip_address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError("must be an IP address") from None


def seed_flags(arguments: Sequence[str]) -> list[str]:
    """`-service ACTION` and `-encrypt`, as in azureSMTPwithOAuth, become commands."""
    words: dict[str, tuple[str, ...]] = {"-service": ("service",), "-encrypt": ("encrypt",)}
    words |= {f"-service={action}": ("service", action) for action in SERVICE_ACTIONS}  # as Go's flags may be written
    return [word for argument in arguments for word in words.get(argument.replace("--", "-", 1), (argument,))]
