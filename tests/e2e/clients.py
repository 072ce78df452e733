# SPDX-License-Identifier: MIT
"""Real SMTP clients: how each is told to send a Mail. What one cannot make itself it sends as a ready message."""

from __future__ import annotations

import base64
import json
import smtplib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.conftest import Login
from tests.e2e.mails import File, Mail
from tests.e2e.reading import Named

NODE_DIRECTORY = Path(__file__).with_name("node")
_PATIENCE_S = 120


@dataclass(frozen=True)
class Server:
    """Where a client sends to, as whom; directory: where it may put files."""

    host: str
    port: int
    login: Login
    directory: Path

    def file(self, name: str, content: bytes) -> Path:
        """A file with this content to hand to a client."""
        path = self.directory / name
        path.write_bytes(content)
        return path

    def files(self, mail: Mail) -> list[tuple[File, Path]]:
        return [(file, self.file(file.name, file.content)) for file in mail.files]


@dataclass(frozen=True)
class Client:
    """program and package: what must be there, and where Debian has it."""

    id: str
    send: Callable[[Server, Mail], None]
    program: str = ""
    package: str = ""


def _run(*command: str | Path, given: bytes = b"") -> None:
    ended = subprocess.run(
        command,
        input=given,
        capture_output=True,
        timeout=_PATIENCE_S,
        check=False,
        env={
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "HOME": "/none",
        },
    )
    assert ended.returncode == 0, (ended.stdout + ended.stderr).decode("utf-8", "replace")[-2000:]


def _shown(people: tuple[Named, ...]) -> str:
    """As a header shows them, where that is left to the client."""
    return ", ".join(f"{name} <{addr}>" if name else addr for name, addr in people)


def send_by_smtplib(server: Server, mail: Mail) -> None:
    with smtplib.SMTP(server.host, server.port, timeout=_PATIENCE_S) as client:
        client.login(server.login.user, server.login.password)
        client.send_message(mail.message(server.login.user))


def send_by_swaks(server: Server, mail: Mail) -> None:
    """It makes plain text and attachments; no HTML alone, no Content-ID, no encoded words."""
    sender = server.login.user
    if mail.html or not mail.is_ascii:
        content = ["--data", f"@{server.file('ready.eml', mail.octets(sender))}"]
    else:
        text = server.file("body.txt", mail.text.encode())
        content = ["--h-From", f"<{sender}>", "--h-To", _shown(mail.to), "--h-Subject", mail.subject]
        content += ["--add-header", f"Cc: {_shown(mail.cc)}"] if mail.cc else []
        content += ["--body", f"@{text}"]
        for file, path in server.files(mail):
            content += ["--attach-type", file.media_type, "--attach-name", file.name, "--attach", f"@{path}"]
    login = ["--auth", "LOGIN", "--auth-user", sender, "--auth-password", server.login.password]
    to = ["--to", ",".join(mail.recipients), "--from", sender]
    _run("swaks", "--server", server.host, "--port", str(server.port), "--silent", "2", *login, *to, *content)


def send_by_msmtp(server: Server, mail: Mail) -> None:
    sender = server.login.user
    _run(
        "msmtp", "--file=/dev/null", f"--host={server.host}", f"--port={server.port}", "--tls=off", "--auth=plain",
        f"--user={sender}", f"--passwordeval=echo {server.login.password}", f"--from={sender}", "--", *mail.recipients,
        given=mail.octets(sender).replace(b"\r\n", b"\n"),
    )  # fmt: skip


def send_by_curl(server: Server, mail: Mail) -> None:
    """It makes MIME out of forms, but no encoded words; a message without parts is a ready one."""
    sender = server.login.user
    if mail.is_ascii and (mail.html or mail.files):
        headers = [f"From: <{sender}>", f"To: {_shown(mail.to)}", f"Subject: {mail.subject}"]
        content = [word for header in headers for word in ("-H", header)] + _curl_form(server, mail)
    else:
        content = ["-T", str(server.file("ready.eml", mail.octets(sender)))]
    to = [word for addr in mail.recipients for word in ("--mail-rcpt", addr)]
    login = ["--user", f"{sender}:{server.login.password}", "--mail-from", sender]
    _run("curl", "-q", "-sS", f"smtp://{server.host}:{server.port}", *login, *to, *content)


def _curl_form(server: Server, mail: Mail) -> list[str]:
    text = ["-F", f"=<{server.file('body.txt', mail.text.encode())};type=text/plain"] if mail.text else []
    html = ["-F", f"=<{server.file('body.html', mail.html.encode())};type=text/html"] if mail.html else []
    body = ["-F", "=(;type=multipart/alternative", *text, *html, "-F", "=)"] if text and html else text + html
    files = []
    for file, path in server.files(mail):
        cid = f';headers="Content-ID: <{file.content_id}>"' if file.content_id else ""
        files += ["-F", f"=@{path};type={file.media_type};encoder=base64{cid}"]
    if any(file.content_id for file in mail.files):
        return ["-F", "=(;type=multipart/related", *body, *files, "-F", "=)"]
    return body + files


def send_by_s_nail(server: Server, mail: Mail) -> None:
    """It makes text, HTML alone and attachments; anything else it sends on out of a mailbox file."""
    sender = server.login.user
    mta = f"smtp://{sender.replace('@', '%40')}:{server.login.password}@{server.host}:{server.port}"
    settings = (
        "v15-compat=yes",
        f"mta={mta}",
        "smtp-auth=plain",
        "sendwait",
        "nosave",
        "fullnames",
        "ttycharset=utf-8",
    )
    options = ["-:/", *(word for setting in settings for word in ("-S", setting))]
    if (mail.html and mail.text) or any(file.content_id for file in mail.files):
        ready = mail.octets(sender).replace(b"\r\n", b"\n")
        mailbox = server.file("ready.mbox", b"From me Thu Jan  1 00:00:00 2026\n" + ready + b"\n")
        command = f"Resend 1 {mail.recipients[0]}\nxit\n"
        return _run("s-nail", *options, "-S", f"from={sender}", "-R", "-f", mailbox, given=command.encode())
    options += ["-r", _shown(((mail.sender_name, sender),)), "-s", mail.subject]
    options += [word for _, path in server.files(mail) for word in ("-a", str(path))]
    options += [word for addr in mail.bcc for word in ("-b", addr)]
    options += [word for one in mail.cc for word in ("-c", _shown((one,)))]
    options += ["-M", "text/html"] if mail.html else []
    return _run("s-nail", *options, "-.", *(_shown((one,)) for one in mail.to), given=(mail.html or mail.text).encode())


def send_by_nodemailer(server: Server, mail: Mail) -> None:
    """It makes everything."""

    def people(named: tuple[Named, ...]) -> list[dict[str, str]]:
        return [{"name": name, "address": addr} for name, addr in named]

    attachments = [
        {
            "filename": file.name,
            "contentType": file.media_type,
            "content": base64.b64encode(file.content).decode("ascii"),
            "encoding": "base64",
            **({"cid": file.content_id} if file.content_id else {}),
        }
        for file in mail.files
    ]
    order = {
        "transport": {
            "host": server.host,
            "port": server.port,
            "auth": {"user": server.login.user, "pass": server.login.password},
        },
        "mail": {
            "from": {"name": mail.sender_name, "address": server.login.user},
            "to": people(mail.to),
            "cc": people(mail.cc),
            "bcc": list(mail.bcc),
            "subject": mail.subject,
            **({"text": mail.text} if mail.text else {}),
            **({"html": mail.html} if mail.html else {}),
            "attachments": attachments,
        },
    }
    _run("node", NODE_DIRECTORY / "send.js", given=json.dumps(order).encode())


CLIENTS = (
    Client("smtplib", send_by_smtplib),
    Client("swaks", send_by_swaks, "swaks", "swaks"),
    Client("msmtp", send_by_msmtp, "msmtp", "msmtp"),
    Client("curl", send_by_curl, "curl", "curl"),
    Client("s-nail", send_by_s_nail, "s-nail", "s-nail"),
    Client("nodemailer", send_by_nodemailer, "node", "nodejs, and npm install in tests/e2e/node"),
)
