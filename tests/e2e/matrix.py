# SPDX-License-Identifier: MIT
"""The matrix of clients: each told to send by plain SMTP, STARTTLS or implicit TLS, with AUTH PLAIN, LOGIN or none.

Knows the options of each client, and nothing of the relay. docs/clients.md is made of what test_matrix.py finds.
"""

from __future__ import annotations

import base64
import itertools
import json
import random
import smtplib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.e2e.clients import NODE_DIRECTORY, _run
from tests.e2e.conftest import Login

NODEMAILER = NODE_DIRECTORY / "node_modules" / "nodemailer"
PHPMAILER = Path("/usr/share/php/libphp-phpmailer")
SCRIPTS = Path(__file__).with_name("scripts")
SECURITIES = ("plain", "STARTTLS", "implicit TLS")
MECHANISMS = ("PLAIN", "LOGIN", "")
CONTENTS = ("8-bit", "SMTPUTF8", "5 MB")
TEXT = "Grüße aus Köln: 5 €, Ελληνικά, 漢字, 🎉"
UTF8_RECIPIENT = "grüße@bücher.example"


class CannotDoIt(Exception):
    """This client has no way to it; the text says why."""


@dataclass(frozen=True)
class Cell:
    """One way to send."""

    security: str
    mechanism: str
    content: str

    @property
    def id(self) -> str:
        return f"{self.security}, {self.mechanism or 'no AUTH'}, {self.content}"

    @property
    def recipient(self) -> str:
        return UTF8_RECIPIENT if self.content == "SMTPUTF8" else "you@example.org"

    @property
    def file(self) -> bytes:
        return large_file() if self.content == "5 MB" else b""


CELLS = tuple(itertools.starmap(Cell, itertools.product(SECURITIES, MECHANISMS, CONTENTS)))


@cache
def large_file() -> bytes:
    """It takes three characters an octet in quoted-printable: 5 MB on the wire that fit into one request to Graph."""
    return bytes(random.Random(5).choices(range(128, 256), k=1_700_000))


@dataclass(frozen=True)
class Order:
    """All that a client has to know. directory: where it may put files."""

    cell: Cell
    host: str
    port: int
    ca_file: str
    login: Login
    directory: Path

    @property
    def message(self) -> bytes:
        """A ready message with 8-bit text, in CR LF lines."""
        head = (
            f"From: {self.login.user}\r\nTo: {self.cell.recipient}\r\nSubject: {self.cell.id}\r\nMIME-Version: 1.0\r\n"
        )
        text = f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{TEXT}\r\n"
        if not self.cell.file:
            return (head + text).encode()
        rows = [self.cell.file[at : at + 25] for at in range(0, len(self.cell.file), 25)]
        quoted = "=\r\n".join("".join(f"={octet:02X}" for octet in row) for row in rows)
        return (
            f"{head}Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{text}\r\n--b\r\n"
            "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: quoted-printable\r\n"
            f'Content-Disposition: attachment; filename="large.bin"\r\n\r\n{quoted}\r\n--b--\r\n'
        ).encode()

    def ready(self, content: bytes | None = None) -> Path:
        """The message, or something else, as a file."""
        path = self.directory / "ready.eml"
        path.write_bytes(self.message if content is None else content)
        return path

    def as_json(self) -> bytes:
        """For the scripts in other languages."""
        message = self.message
        values: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "ca_file": self.ca_file,
            "security": self.cell.security,
            "mechanism": self.cell.mechanism,
            "user": self.login.user,
            "password": self.login.password,
            "sender": self.login.user,
            "recipient": self.cell.recipient,
            "subject": self.cell.id,
            "text": TEXT,
            "file": base64.b64encode(self.cell.file).decode(),
            "message": base64.b64encode(message).decode(),
            "stuffed": base64.b64encode(message.replace(b"\r\n.", b"\r\n..")).decode(),
        }
        return json.dumps(values).encode()


def by_smtplib(order: Order) -> None:
    context = ssl.create_default_context(cafile=order.ca_file)
    client: smtplib.SMTP
    if order.cell.security == "implicit TLS":
        client = smtplib.SMTP_SSL(order.host, order.port, context=context, timeout=120)
    else:
        client = smtplib.SMTP(order.host, order.port, timeout=120)
    with client:
        if order.cell.security == "STARTTLS":
            client.starttls(context=context)
        client.ehlo()
        if order.cell.mechanism:
            client.user, client.password = order.login.user, order.login.password
            client.auth(order.cell.mechanism, getattr(client, f"auth_{order.cell.mechanism.lower()}"))
        options = ["BODY=8BITMIME", *(["SMTPUTF8"] if order.cell.content == "SMTPUTF8" else [])]
        client.sendmail(order.login.user, [order.cell.recipient], order.message, mail_options=options)


def by_swaks(order: Order) -> None:
    if order.cell.content == "SMTPUTF8":
        raise CannotDoIt("this version knows no SMTPUTF8")
    tls = {"plain": [], "STARTTLS": ["--tls"], "implicit TLS": ["--tls-on-connect"]}[order.cell.security]
    auth = ["--auth", order.cell.mechanism, "--auth-user", order.login.user, "--auth-password", order.login.password]
    _run(
        "swaks", "--silent", "2", "--server", order.host, "--port", str(order.port), *tls,
        *(auth if order.cell.mechanism else []),
        "--from", order.login.user, "--to", order.cell.recipient, "--data", f"@{order.ready()}",
    )  # fmt: skip


def by_curl(order: Order) -> None:
    scheme = "smtps" if order.cell.security == "implicit TLS" else "smtp"
    auth = ["--user", f"{order.login.user}:{order.login.password}", "--login-options", f"AUTH={order.cell.mechanism}"]
    _run(
        "curl", "-q", "-sS", f"{scheme}://{order.host}:{order.port}/client.example", "--cacert", order.ca_file,
        *(["--ssl-reqd"] if order.cell.security == "STARTTLS" else []), *(auth if order.cell.mechanism else []),
        "--mail-from", order.login.user, "--mail-rcpt", order.cell.recipient, "-T", str(order.ready()),
    )  # fmt: skip


def by_msmtp(order: Order) -> None:
    if order.cell.content == "SMTPUTF8":
        raise CannotDoIt("it sends such an address without the SMTPUTF8 parameter, which RFC 6531 asks for")
    secure = order.cell.security != "plain"
    tls = [
        f"--tls-trust-file={order.ca_file}",
        f"--tls-starttls={'on' if order.cell.security == 'STARTTLS' else 'off'}",
    ]
    login = [f"--user={order.login.user}", f"--passwordeval=echo {order.login.password}"]
    _run(
        "msmtp", "--file=/dev/null", f"--host={order.host}", f"--port={order.port}",
        f"--tls={'on' if secure else 'off'}", *(tls if secure else []),
        f"--auth={order.cell.mechanism.lower() or 'off'}", *(login if order.cell.mechanism else []),
        f"--from={order.login.user}", "--", order.cell.recipient,
        given=order.message.replace(b"\r\n", b"\n"),
    )  # fmt: skip


def by_s_nail(order: Order) -> None:
    """It sends on a message out of a mailbox file."""
    if order.cell.content == "SMTPUTF8":
        raise CannotDoIt("this version knows no SMTPUTF8")
    who = f"{order.login.user.replace('@', '%40')}:{order.login.password}@" if order.cell.mechanism else ""
    scheme = "smtps" if order.cell.security == "implicit TLS" else "smtp"
    settings = [
        "v15-compat=yes", f"mta={scheme}://{who}{order.host}:{order.port}", "sendwait", "nosave",
        f"smtp-auth={order.cell.mechanism.lower() or 'none'}", f"tls-ca-file={order.ca_file}", "tls-verify=strict",
        "ttycharset=utf-8", f"from={order.login.user}", "hostname=client.example",
        *(["smtp-use-starttls"] if order.cell.security == "STARTTLS" else []),
    ]  # fmt: skip
    ready = order.message.replace(b"\r\n", b"\n")
    mailbox = order.ready(b"From me Thu Jan  1 00:00:00 2026\n" + ready + b"\n")
    options = ["-:/", *(word for setting in settings for word in ("-S", setting))]
    _run("s-nail", *options, "-R", "-f", mailbox, given=f"Resend 1 {order.cell.recipient}\nxit\n".encode())


def by_nodemailer(order: Order) -> None:
    cell = order.cell
    transport: dict[str, Any] = {
        "host": order.host,
        "port": order.port,
        "secure": cell.security == "implicit TLS",
        "requireTLS": cell.security == "STARTTLS",
        "ignoreTLS": cell.security == "plain",
        "tls": {"ca": Path(order.ca_file).read_text()},
    }
    if cell.mechanism:
        transport |= {
            "authMethod": cell.mechanism,
            "auth": {"user": order.login.user, "pass": order.login.password},
        }
    mail = {"envelope": {"from": order.login.user, "to": cell.recipient}, "raw": order.message.decode()}
    _run("node", NODE_DIRECTORY / "send.js", given=json.dumps({"transport": transport, "mail": mail}).encode())


def by_phpmailer(order: Order) -> None:
    if order.cell.content == "SMTPUTF8":
        raise CannotDoIt("this version knows no SMTPUTF8")
    _run("php", SCRIPTS / "send.php", given=order.as_json())


def by_net_smtp_perl(order: Order) -> None:
    if order.cell.content == "SMTPUTF8":
        raise CannotDoIt("this version knows no SMTPUTF8")
    _run("perl", SCRIPTS / "send.pl", given=order.as_json())


def by_net_smtp_ruby(order: Order) -> None:
    if order.cell.content == "SMTPUTF8":
        raise CannotDoIt("this version knows no SMTPUTF8")
    _run("ruby", SCRIPTS / "send.rb", given=order.as_json())


@dataclass(frozen=True)
class Sender:
    """A client of the matrix. version: a command whose first line tells it."""

    name: str
    send: Callable[[Order], None]
    program: str = ""
    package: str = ""
    version: tuple[str, ...] = ()
    also: tuple[Path, ...] = ()  # what else must be there


SENDERS = (
    Sender("Python smtplib", by_smtplib, "", "", ("python3", "--version")),
    Sender("swaks", by_swaks, "swaks", "swaks", ("swaks", "--version")),
    Sender("curl", by_curl, "curl", "curl", ("curl", "--version")),
    Sender("msmtp", by_msmtp, "msmtp", "msmtp", ("msmtp", "--version")),
    Sender("s-nail", by_s_nail, "s-nail", "s-nail", ("s-nail", "--version")),
    Sender(
        "nodemailer", by_nodemailer, "node", "nodejs, and npm install in tests/e2e/node",
        ("node", "-p", f"require('{NODEMAILER}/package.json').version"), (NODEMAILER,),
    ),
    Sender(
        "PHPMailer", by_phpmailer, "php", "php-cli libphp-phpmailer",
        ("php", "-r", f"require '{PHPMAILER}/autoload.php'; echo PHPMailer\\PHPMailer\\PHPMailer::VERSION;"),
        (PHPMAILER,),
    ),
    Sender(
        "Perl Net::SMTP", by_net_smtp_perl, "perl", "perl", ("perl", "-MNet::SMTP", "-e", "print Net::SMTP->VERSION")
    ),
    Sender("Ruby net/smtp", by_net_smtp_ruby, "ruby", "ruby", ("ruby", "--version")),
)  # fmt: skip
