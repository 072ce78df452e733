# SPDX-License-Identifier: MIT
"""A whole run at debug level, with logins, failures, faults and tracebacks: no secret in anything that was written."""

from __future__ import annotations

import re
import signal
import smtplib
import socket
import uuid
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import msal
import pytest

from relay.clientcert import read_client_certificate
from relay.configcrypt import encrypt_file
from relay.credentials import hash_password
from relay.vault import Vault
from tests.support import pem_files
from tests.support.relay_process import CHECKOUT, CLIENT_ID, RelayProcess, config_for
from tests.support.sandbox_client import Upstream

USER = "scanner@example.com"
PASSWORD = "Zauber+Wort/ß=1"
WRONG_PASSWORD = "Falsches+Wort/ß=2"
FALLBACK_PASSWORD = "Rückfall+Wort/3"
CLIENT_SECRET = "App~Secret+Value/4"
BODY_WORD = "VertraulicherInhalt"
ATTACHMENT = b"vertraulicher Anhang" * 20
TOKEN_BEGINS = "eyJ0eXAiOiJKV1Qi"  # {"typ":"JWT", in base64url

# What a bug of ours would do: raise in the middle, with secrets in reach. The launcher is the program but for that.
LAUNCHER = """
import sys
sys.path.insert(0, {checkout!r})
from gevent import monkey
monkey.patch_all()
from relay import bootstrap, delivery
from relay.smtp import session
whole_read = delivery.read
def read(content, **options):
    if b"Subject: breaks the submission" in bytes(content):
        raise RuntimeError("injected")
    return whole_read(content, **options)
def vrfy(self, argument):
    raise RuntimeError("injected")
delivery.read = read
session._ACTIONS["VRFY"] = vrfy
sys.exit(bootstrap.run())
"""


def encoded(text: str) -> list[str]:
    """The forms in which a text may turn up: as it is, in base64, in a URL, in JSON, as a bytes literal."""
    octets = text.encode()
    forms = [text, quote(text, safe=""), quote_plus(text), repr(octets)[2:-1], text.encode("unicode_escape").decode()]
    # In base64 it depends on what stands before. The octets at either end share characters with their neighbours.
    for shift in range(3):
        forms.append(b64encode(b"\0" * shift + octets).decode("ascii")[4 if shift else 0 :].rstrip("=")[:-2])
    return forms


SECRETS = [
    *encoded(PASSWORD),
    *encoded(WRONG_PASSWORD),
    *encoded(FALLBACK_PASSWORD),
    *encoded(CLIENT_SECRET),
    *encoded(BODY_WORD),
    *encoded(f"\0{USER}\0{PASSWORD}"),
    b64encode(f"{CLIENT_ID}:{quote_plus(CLIENT_SECRET)}".encode()).decode("ascii"),
    b64encode(ATTACHMENT).decode("ascii")[:40],
    TOKEN_BEGINS,
]


def plain(password: str) -> str:
    return b64encode(f"\0{USER}\0{password}".encode()).decode("ascii")


def message(subject: str) -> bytes:
    return (
        f"From: {USER}\r\nTo: you@example.org\r\nSubject: {subject}\r\n"
        'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
        f"--b\r\nContent-Type: text/plain\r\n\r\n{BODY_WORD}\r\n"
        "--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        f"{b64encode(ATTACHMENT).decode('ascii')}\r\n--b\r\nContent-Type: text/plain; charset=no-such\r\n\r\n"
        f"{BODY_WORD}\r\n--b--\r\n"
    ).encode("ascii")


def send(client: smtplib.SMTP, subject: str) -> int:
    client.mail(USER)
    client.rcpt("you@example.org")
    return client.data(message(subject))[0]


def log_in_in_every_way(relay: RelayProcess) -> None:
    """Right, wrong, garbled, cancelled, out of step."""
    name, password = b64encode(USER.encode()).decode(), b64encode(PASSWORD.encode()).decode()
    dialogues = (
        [f"AUTH PLAIN {plain(PASSWORD)}"],
        ["AUTH PLAIN", plain(PASSWORD)],
        ["AUTH LOGIN", name, password],
        [f"AUTH LOGIN {name}", password],
        [f"AUTH PLAIN {plain(WRONG_PASSWORD)}", f"AUTH PLAIN {plain(WRONG_PASSWORD)}"],
        [f"AUTH PLAIN {plain(PASSWORD)[:-3]}!", f"AUTH PLAIN {plain(PASSWORD)} trailing"],
        ["AUTH LOGIN", name, "*"],
        [f"AUTH CRAM-MD5 {password}", f"AUTH {password}", password, PASSWORD.encode().decode("latin-1")],
        [f"AUTH PLAIN {plain(PASSWORD)}", f"AUTH PLAIN {plain(PASSWORD)}"],
        [f"AUTH PLAIN {plain(PASSWORD) * 400}"],
    )
    for dialogue in dialogues:
        with relay.smtp() as client:
            client.command_encoding = "latin-1"
            for line in dialogue:
                client.docmd(line)
    with socket.create_connection((relay.host, relay.port)) as hasty:  # hangs up in the middle of its login
        hasty.sendall(f"EHLO x\r\nAUTH PLAIN {plain(PASSWORD)}\r\nAUTH LOGIN\r\n{name}".encode("ascii"))


def fail_in_every_way(relay: RelayProcess, upstream: Upstream) -> None:
    faults: list[dict[str, object]] = [
        {"kind": "sendMail", "status": status, "count": 1} for status in (400, 401, 403, 404, 413, 429, 500, 503)
    ]
    faults += [{"kind": "sendMail", "reset": "after_body"}, {"kind": "sendMail", "status": 500, "body": "html"}]
    with relay.smtp() as client:
        assert client.docmd(f"AUTH PLAIN {plain(PASSWORD)}")[0] == 235
        for fault in faults:
            upstream.fault(**fault)
            send(client, "fails")
        upstream.revoke()
        upstream.fault(kind="token", reset="after_body")
        send(client, "fails")
        assert send(client, "arrives") == 250
        assert send(client, "breaks the submission") == 451
        assert client.verify("x")[0] == 421
    with relay.smtp() as anonymous:
        assert send(anonymous, "arrives") == 250
    for user in ("aadsts50076@example.com", "someone@federated.example"):
        with relay.smtp() as client:
            assert client.docmd("AUTH", "PLAIN " + b64encode(f"\0{user}\0{PASSWORD}".encode()).decode())[0] == 535
    for number, fault in enumerate(({"status": 200, "body": "html"}, {"slow_s": 0.1}, {"status": 503})):
        upstream.fault(kind="token", **fault)
        with relay.smtp() as client:
            login = b64encode(f"\0other-{number}@example.com\0{PASSWORD}".encode()).decode()
            assert client.docmd("AUTH", "PLAIN " + login)[0] in (235, 454)


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_secret_is_written_anywhere(tmp_path: Path, log_format: str) -> None:
    (tmp_path / "sandbox").mkdir()
    launcher = tmp_path / "launcher.py"
    launcher.write_text(LAUNCHER.format(checkout=str(CHECKOUT)))
    written = tmp_path / "relay"
    users = {USER: PASSWORD, "fallback@example.com": FALLBACK_PASSWORD}
    users |= {f"other-{number}@example.com": PASSWORD for number in range(3)}
    with Upstream(tmp_path / "sandbox", users=users, client_secret=CLIENT_SECRET) as upstream:
        config = config_for(
            upstream,
            retry_attempts=2,
            submit_timeout=4,
            log_format=log_format,
            allow_anonymous=True,
            fallback_smtp_user="fallback@example.com",
            fallback_smtp_pass=FALLBACK_PASSWORD,
        )
        config["oauth2_config"] = {**config["oauth2_config"], "client_secret": CLIENT_SECRET}
        with RelayProcess(written, config, program=launcher) as relay:
            log_in_in_every_way(relay)
            fail_in_every_way(relay, upstream)
            assert relay.process.poll() is None
    relay.config_file.unlink()  # the one file that holds secrets
    output = {path: path.read_text(encoding="utf-8") for path in written.rglob("*") if path.is_file()}
    assert len(output) >= 2
    log = output[relay.stdout_file]
    assert log.count("Traceback") == 2  # the search has something to find secrets in
    for event in (
        "auth_failed",
        "auth_unavailable",
        "delivered",
        "deferred",
        "rejected",
        "graph_retry",
        "smtp_command",
    ):
        assert event in log
    found = [(path.name, secret) for path, text in output.items() for secret in SECRETS if secret in text]
    assert found == []


# The flows of the app

PASS_PHRASE = "Schlüssel+Wort/6"
IDENTITY_HEADER = "Kopf+Zeile/7"
PEM = pem_files.usable(PASS_PHRASE)
CERTIFICATE = read_client_certificate(PEM, PASS_PHRASE)


def key_lines(pem: str) -> list[str]:
    """Lines of a PEM file that belong to its private key alone."""
    return re.sub(r"-----BEGIN CERTIFICATE.*", "", pem, flags=re.DOTALL).splitlines()[2:-2]


def app_secrets(encoded_hash: str, key_file: Path) -> list[str]:
    salt, digest = encoded_hash.split("$")[2:]
    return [
        *encoded(PASSWORD),
        *encoded(WRONG_PASSWORD),
        *encoded(CLIENT_SECRET),
        *encoded(PASS_PHRASE),
        *encoded(IDENTITY_HEADER),
        *encoded(BODY_WORD),
        *encoded(key_file.read_text().strip()),
        *key_lines(PEM.decode()),
        *key_lines(CERTIFICATE.key),
        salt,
        digest,
        TOKEN_BEGINS,
        "eyJhbGciOi",  # {"alg":, a client assertion
        "enc:gAAAA",
    ]


def app_flows(upstream: Upstream, directory: Path) -> dict[str, dict[str, Any]]:
    pem_file = directory / "app.pem"
    pem_file.write_bytes(PEM)
    app = {**config_for(upstream)["oauth2_config"], "flow": "client_credentials"}
    flows = {
        "secret": {**app, "client_secret": CLIENT_SECRET},
        "certificate": {**app, "client_secret": PASS_PHRASE, "client_certificate": str(pem_file)},
        "client_login": {"flow": "client_login", "authority": upstream.url},
        "managed_identity": {"flow": "managed_identity"},
    }
    return flows if hasattr(msal, "ManagedIdentityClient") else {k: v for k, v in flows.items() if "managed" not in k}


def log_in_and_send(relay: RelayProcess, upstream: Upstream, user: str, password: str) -> None:
    """First in front of an Entra ID that refuses the app; then, with all of it built anew, as it should be.

    An app that is the device's own login would be refused for a minute, reload or not.
    """
    upstream.reset()
    upstream.fault(kind="token", **({"status": 401, "code": "7000222"} if user == "scanner" else {"status": 503}))
    upstream.fault(kind="identity", status=500)
    dialogue(relay, upstream, user, password)
    relay.signal(signal.SIGHUP)
    relay.wait_for("reloaded")
    dialogue(relay, upstream, user, WRONG_PASSWORD)
    dialogue(relay, upstream, user, password)


def dialogue(relay: RelayProcess, upstream: Upstream, user: str, password: str) -> None:
    with relay.smtp() as client:
        login = b64encode(f"\0{user}\0{password}".encode()).decode()
        if client.docmd("AUTH", "PLAIN " + login)[0] == 235:
            send(client, "arrives")
            send(client, "breaks the submission")
            upstream.revoke()
            send(client, "arrives")
            client.verify("x")


def test_no_secret_of_the_apps_flows_is_written_anywhere(tmp_path: Path) -> None:
    (tmp_path / "sandbox").mkdir()
    launcher = tmp_path / "launcher.py"
    launcher.write_text(LAUNCHER.format(checkout=str(CHECKOUT)))
    key_file = tmp_path / "secret.key"
    Vault(key_file).make_key()
    hashed = hash_password(PASSWORD)
    users = [{"username": "scanner", "password_hash": hashed, "mailbox": USER}]
    tenant = uuid.uuid5(uuid.NAMESPACE_URL, "tenant:sandbox")
    settings = {"client_secret": CLIENT_SECRET, "client_certificate": CERTIFICATE.chain}
    with Upstream(tmp_path / "sandbox", identity_header=IDENTITY_HEADER, **settings) as upstream:
        for name, entra in app_flows(upstream, tmp_path).items():
            config = config_for(upstream, retry_attempts=2, submit_timeout=4, oauth2_config=entra, users=users)
            env = {"IDENTITY_ENDPOINT": f"{upstream.url}/msi/token", "IDENTITY_HEADER": IDENTITY_HEADER}
            env["GRAPH_SMTP_RELAY_KEY_FILE"] = str(key_file)
            relay = RelayProcess(tmp_path / name, config, program=launcher, env=env)
            encrypt_file(relay.config_file, Vault(key_file))
            with relay:
                if name == "client_login":
                    log_in_and_send(relay, upstream, f"{tenant}@{CLIENT_ID}", CLIENT_SECRET)
                else:
                    log_in_and_send(relay, upstream, "scanner", PASSWORD)
                command_line = Path(f"/proc/{relay.process.pid}/cmdline").read_text()
                title = Path(f"/proc/{relay.process.pid}/comm").read_text()
            output = {"command line": command_line, "title": title, "log": relay.stdout_file.read_text("utf-8")}
            output["stderr"] = relay.stderr
            assert "Traceback" in output["log"]
            assert '"event": "delivered"' in output["log"], name
            secrets = app_secrets(hashed, key_file)
            found = [(what, secret) for what, text in output.items() for secret in secrets if secret in text]
            assert found == [], name
            relay.config_file.unlink()
            left = [path.name for path in (tmp_path / name).iterdir()]
            assert sorted(left) == ["stderr.log", "stdout.log"], "nothing else was written"
