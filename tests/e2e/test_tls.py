# SPDX-License-Identifier: MIT
"""TLS over real sockets: STARTTLS, implicit TLS, what is forgotten and discarded, what fails alone, certificates."""

from __future__ import annotations

import contextlib
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from relay.selfsigned import write_pair
from tests.e2e.conftest import Login, need
from tests.support.raw import PATIENCE_S, RawClient, trusting
from tests.support.relay_process import RelayProcess, config_for, run_once, wait_until
from tests.support.sandbox_client import Upstream

NAMES = ["relay.example", "127.0.0.1", "localhost"]
FALLBACK = {"allow_anonymous": True, "fallback_smtp_user": "fallback@example.com", "fallback_smtp_pass": "x"}


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    cert_file: str
    key_file: str

    def keys(self, **more: Any) -> dict[str, Any]:
        """The configuration's table tls."""
        return {
            "cert_file": self.cert_file,
            "key_file": self.key_file,
            "implicit_addr": "127.0.0.1:0",
            **more,
        }


def make_pair(directory: Path) -> Pair:
    directory.mkdir(parents=True, exist_ok=True)
    return Pair(*map(str, write_pair(directory, NAMES, datetime.now(UTC))))


@pytest.fixture(scope="module")
def pair(directory: Path) -> Pair:
    return make_pair(directory / "tls")


@pytest.fixture(scope="module")
def relay_keys(pair: Pair) -> dict[str, Any]:
    return {"tls": pair.keys(), **FALLBACK}


@pytest.fixture
def client(relay: RelayProcess) -> Iterator[RawClient]:
    """Connected to the plain port and greeted."""
    with RawClient(relay.host, relay.port) as client:
        assert client.status() == "220"
        assert client.say("EHLO client.example") == "250"
        yield client


def implicit(relay: RelayProcess) -> tuple[str, int]:
    return relay.addresses()[1]


def plain(login: Login) -> str:
    return "AUTH PLAIN " + b64encode(f"\0{login.user}\0{login.password}".encode()).decode()


def starttls(client: RawClient, pair: Pair) -> None:
    assert client.say("STARTTLS") == "220 2.0.0"
    client.start_tls(trusting(pair.cert_file))


def deliver(client: smtplib.SMTP, login: Login) -> None:
    client.login(login.user, login.password)
    client.sendmail(login.user, ["you@example.org"], f"From: {login.user}\r\nSubject: over TLS\r\n\r\nText.\r\n")


# The two ways in


def test_starttls(relay: RelayProcess, upstream: Upstream, pair: Pair, login: Login) -> None:
    with relay.smtp() as client:
        assert client.has_extn("starttls")
        client.starttls(context=trusting(pair.cert_file))
        client.ehlo()
        assert not client.has_extn("starttls")
        assert client.docmd("STARTTLS")[0] == 503
        deliver(client, login)
    assert upstream.messages()[0]["message"]["subject"] == "over TLS"
    assert relay.events("tls_started")[-1]["tls"] == "TLSv1.3"


def test_the_log_says_where_tls_comes_first(relay: RelayProcess) -> None:
    host, port = implicit(relay)
    assert [line["address"] for line in relay.events("listening", tls="implicit")] == [f"{host}:{port}"]
    assert [line["address"] for line in relay.events("listening", tls=None)] == [f"{relay.host}:{relay.port}"]


def test_implicit_tls(relay: RelayProcess, upstream: Upstream, pair: Pair, login: Login) -> None:
    host, port = implicit(relay)
    with smtplib.SMTP_SSL(host, port, context=trusting(pair.cert_file), timeout=PATIENCE_S) as client:
        client.ehlo()
        assert not client.has_extn("starttls")
        deliver(client, login)
    assert upstream.messages()[0]["message"]["subject"] == "over TLS"


def test_a_large_message_through_tls(relay: RelayProcess, upstream: Upstream, pair: Pair, login: Login) -> None:
    """Records are 16 KiB at most, reads are larger."""
    body = ("x" * 70 + "\r\n") * 20_000
    with relay.smtp() as client:
        client.starttls(context=trusting(pair.cert_file))
        client.login(login.user, login.password)
        client.sendmail(login.user, ["you@example.org"], f"Subject: large\r\n\r\n{body}.\r\n")
    arrived = upstream.messages()[0]["message"]["body"]["content"]
    assert arrived.replace("\r\n", "\n") == body.replace("\r\n", "\n") + ".\n"


# What STARTTLS hides, forgets and discards


def test_auth_only_inside_of_tls(client: RawClient, pair: Pair, login: Login) -> None:
    client.send(b"EHLO client.example\r\n")
    lines = [line[4:] for line in client.reply()]
    assert "STARTTLS" in lines
    assert not [line for line in lines if line.startswith("AUTH")]
    assert client.say(plain(login)) == "538 5.7.11"
    starttls(client, pair)
    client.send(b"EHLO client.example\r\n")
    assert "AUTH PLAIN LOGIN" in [line[4:] for line in client.reply()]
    assert client.say(plain(login)) == "235 2.7.0"


def test_what_was_said_before_the_handshake_is_forgotten(client: RawClient, pair: Pair) -> None:
    """RFC 3207 §4.2: EHLO, and a mail transaction that was begun."""
    assert client.say("MAIL FROM:<a@example.com>") == "250 2.1.0"
    assert client.say("RCPT TO:<b@example.com>") == "250 2.1.5"
    starttls(client, pair)
    assert client.say("DATA") == "503 5.5.1"
    assert client.say("MAIL FROM:<a@example.com>") == "503 5.5.1"
    assert client.say("EHLO client.example") == "250"
    assert client.say("RCPT TO:<b@example.com>") == "503 5.5.1"


def test_a_login_before_the_handshake_is_forgotten(
    tmp_path: Path, upstream: Upstream, pair: Pair, login: Login
) -> None:
    with (
        RelayProcess(tmp_path, config_for(upstream, tls=pair.keys(require_for_auth=False))) as relay,
        RawClient(relay.host, relay.port) as client,
    ):
        assert [client.status(), client.say("EHLO c"), client.say(plain(login))] == ["220", "250", "235 2.7.0"]
        starttls(client, pair)
        assert client.say("EHLO c") == "250"
        assert client.say("MAIL FROM:<a@example.com>") == "530 5.7.0"


INJECTED = b"EHLO evil\r\nMAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@example.com>\r\nRSET\r\n"


def test_what_is_pipelined_behind_starttls_is_discarded(
    client: RawClient, relay: RelayProcess, upstream: Upstream, pair: Pair
) -> None:
    """CVE-2011-0411: whoever sits in between adds commands in clear, which shall not run inside of TLS."""
    client.send(b"STARTTLS\r\n" + INJECTED + b"MAIL FROM:<evil@example.com>\r\n")
    assert client.status() == "220 2.0.0"
    client.start_tls(trusting(pair.cert_file))
    assert client.say("RCPT TO:<victim@example.com>") == "503 5.5.1"
    assert client.say("MAIL FROM:<a@example.com>") == "503 5.5.1", "not even its EHLO counted"
    assert client.say("EHLO client.example") == "250"
    assert client.say("QUIT") == "221 2.0.0"
    assert client.is_over()
    session = relay.events("tls_started")[-1]["session"]
    assert not [line for line in relay.events("smtp_command", session=session) if "evil" in line["command"]]
    assert upstream.messages() == []


def test_octets_in_clear_that_come_later_break_the_handshake(client: RawClient, relay: RelayProcess) -> None:
    """They are no TLS, and are not taken for commands either."""
    assert client.say("STARTTLS") == "220 2.0.0"
    client.send(INJECTED)
    assert b"250" not in what_comes(client.sock)
    assert "does not speak TLS" in relay.wait_for("tls_failed", session=last_session(relay))["reason"]


def what_comes(sock: socket.socket) -> bytes:
    """Until it ends, be it by a reset, since not all was read of what we said. An alert may come (RFC 8446 §6)."""
    heard = b""
    with contextlib.suppress(ConnectionResetError):
        while octets := sock.recv(4096):
            heard += octets
    return heard


def last_session(relay: RelayProcess) -> str:
    """Of the newest connection that said something."""
    return str(relay.events("smtp_command")[-1]["session"])


# Handshakes that come to nothing


def test_a_failed_handshake_costs_one_session(client: RawClient, relay: RelayProcess, pair: Pair) -> None:
    """Here the client does not trust the certificate; another session goes on."""
    with RawClient(relay.host, relay.port) as careful:
        assert [careful.status(), careful.say("EHLO c"), careful.say("STARTTLS")] == ["220", "250", "220 2.0.0"]
        with pytest.raises(ssl.SSLCertVerificationError):
            careful.start_tls(ssl.create_default_context())
    assert "not trust our certificate" in relay.wait_for("tls_failed", session=last_session(relay))["reason"]
    assert client.say("NOOP") == "250 2.0.0"
    starttls(client, pair)
    assert client.say("NOOP") == "250 2.0.0"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP"),
        (b"EHLO client.example\r\n", "does not speak TLS"),
        (bytes(range(256)) * 40, "does not speak TLS"),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03", "OpenSSL says"),
        (b"", "hung up"),
    ],
    ids=["http", "smtp", "garbage", "hello of one octet", "nothing"],
)
def test_garbage_on_the_implicit_port(relay: RelayProcess, said: bytes, words: str) -> None:
    before = len(relay.events("tls_failed"))
    with socket.create_connection(implicit(relay), PATIENCE_S) as client:
        client.sendall(said)
        with contextlib.suppress(OSError):  # closed already
            client.shutdown(socket.SHUT_WR)
        assert b"220" not in what_comes(client)
    failed = wait_until(lambda: relay.events("tls_failed")[before:], "the line in the log")
    assert words in failed[0]["reason"]
    assert failed[0]["level"] == "info"


def dribble(sock: socket.socket, octets: bytes) -> None:
    """20 octets a second."""
    for octet in octets:
        sock.sendall(bytes((octet,)))
        time.sleep(0.05)


def test_nobody_waits_for_a_handshake_that_never_comes(tmp_path: Path, upstream: Upstream, pair: Pair) -> None:
    config = config_for(upstream, tls=pair.keys(), command_timeout=600)
    with RelayProcess(tmp_path, config) as relay, ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(socket.create_connection(implicit(relay), PATIENCE_S))
        with RawClient(*implicit(relay), tls=trusting(pair.cert_file)) as other:
            assert [other.status(), other.say("EHLO c")] == ["220", "250"]


def test_a_slow_handshake_costs_one_session(tmp_path: Path, upstream: Upstream, pair: Pair) -> None:
    """One that never comes, and one that comes an octet at a time: both end at command_timeout."""
    config = config_for(upstream, tls=pair.keys(), command_timeout=1)
    with RelayProcess(tmp_path, config) as relay:
        silent = [socket.create_connection(implicit(relay), PATIENCE_S) for _ in range(20)]
        dribbling = socket.create_connection(implicit(relay), PATIENCE_S)
        hello = b"\x16\x03\x01\x02\x00\x01" + b"\0" * 500
        with pytest.raises((BrokenPipeError, ConnectionResetError)):  # or the time-out counted for each octet anew
            dribble(dribbling, hello)
        wait_until(lambda: len(relay.events("tls_failed")) == 21, "all of them to be ended")
        assert {line["reason"] for line in relay.events("tls_failed")} == {
            "the client did not finish the handshake in time"
        }
        for sock in (*silent, dribbling):
            sock.close()
        relay.assert_sound()


def test_a_client_hello_on_the_plain_port_is_named(relay: RelayProcess, pair: Pair) -> None:
    with pytest.raises(ssl.SSLError):
        RawClient(relay.host, relay.port, tls=trusting(pair.cert_file))
    line = relay.wait_for("tls_on_plain_port")
    assert line["level"] == "warning"
    assert "TLS from the first byte" in line["reason"]


def test_over_max_connections_the_implicit_port_closes(tmp_path: Path, upstream: Upstream, pair: Pair) -> None:
    """There is no telling without a handshake (contract §3)."""
    with (
        RelayProcess(tmp_path, config_for(upstream, tls=pair.keys(), max_connections=1)) as relay,
        RawClient(relay.host, relay.port) as first,
    ):
        assert first.status() == "220"
        with socket.create_connection(implicit(relay), PATIENCE_S) as second:
            assert second.recv(1) == b""
        assert first.say("NOOP") == "250 2.0.0"
        relay.wait_for("too_many_connections")


# Versions and ciphers


def s_client(address: tuple[str, int], *options: str) -> str:
    """What OpenSSL's own client says of a handshake."""
    need("openssl", "openssl")
    host, port = address
    ended = subprocess.run(
        ["openssl", "s_client", "-connect", f"{host}:{port}", *options],
        input=b"QUIT\r\n",
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return (ended.stdout + ended.stderr).decode("utf-8", "replace")


@pytest.mark.parametrize("version", ["tls1", "tls1_1"])
def test_old_versions_are_refused_by_default(relay: RelayProcess, version: str) -> None:
    said = s_client(implicit(relay), f"-{version}", "-cipher", "ALL:@SECLEVEL=0")
    assert "Cipher is (NONE)" in said
    wait_until(lambda: [line for line in relay.events("tls_failed") if "tls.min_version" in line["reason"]], "why")


@pytest.mark.parametrize("ciphers", ["eNULL", "aNULL", "RC4", "3DES", "EXPORT", "MD5", "kRSA"])
def test_weak_ciphers_are_refused_by_default(relay: RelayProcess, ciphers: str) -> None:
    said = s_client(implicit(relay), "-tls1_2", "-cipher", f"{ciphers}:@SECLEVEL=0")
    assert "Cipher is (NONE)" in said or "no cipher match" in said


@pytest.mark.parametrize(("version", "shown"), [("tls1_2", "TLSv1.2"), ("tls1_3", "TLSv1.3")])
@pytest.mark.parametrize("mode", ["implicit", "starttls"])
def test_new_versions(relay: RelayProcess, version: str, shown: str, mode: str) -> None:
    where, how = (implicit(relay), []) if mode == "implicit" else ((relay.host, relay.port), ["-starttls", "smtp"])
    said = s_client(where, f"-{version}", *how)
    assert f"New, {shown}" in said
    assert "Secure Renegotiation IS NOT supported" in said or version == "tls1_2"
    assert "Compression: NONE" in said


def test_a_session_can_be_resumed(relay: RelayProcess) -> None:
    """A device that sends page by page saves the key exchange."""
    said = s_client(implicit(relay), "-tls1_2", "-reconnect")
    assert said.count("Reused, TLSv1.2") >= 4


@pytest.mark.parametrize(
    ("version", "letter", "then"),
    [("tls1_3", "K", "NOOP"), ("tls1_2", "R", "no renegotiation")],
    ids=["key_update", "renegotiation"],
)
def test_what_tls_has_to_say_in_the_middle(relay: RelayProcess, version: str, letter: str, then: str) -> None:
    """New keys are followed (RFC 8446 §4.6.3); another handshake is refused at once (RFC 5246 §7.2.2)."""
    need("openssl", "openssl")
    host, port = implicit(relay)
    command = ["openssl", "s_client", "-connect", f"{host}:{port}", f"-{version}", "-quiet", "-no_ign_eof"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = b""

        def reads(what: str) -> None:
            nonlocal said
            while what.encode() not in said:
                octets = process.stdout.read(4096) if process.stdout is not None else b""
                assert octets, said
                said += octets

        try:
            reads("220 ")
            process.stdin.write(f"{letter}\n".encode())
            if then == "NOOP":
                reads("KEYUPDATE")
                process.stdin.write(b"NOOP\r\n")
                reads("250 2.0.0")
            else:
                reads(then)
        finally:
            process.kill()
    relay.assert_sound()


def test_min_version_tlsv1_for_old_printers(tmp_path: Path, upstream: Upstream, pair: Pair) -> None:
    """Also with the RSA key exchange that is all some know; a new client still gets what is best."""
    with RelayProcess(tmp_path, config_for(upstream, tls=pair.keys(min_version="TLSv1"))) as relay:
        assert "tls.min_version" in relay.wait_for("config")["reason"]
        for version, shown in (("tls1", "TLSv1"), ("tls1_1", "TLSv1.1")):
            said = s_client(implicit(relay), f"-{version}", "-cipher", "AES128-SHA:@SECLEVEL=0")
            assert f"Protocol  : {shown}\n" in said
            assert "Cipher    : AES128-SHA\n" in said
        assert "New, TLSv1.3" in s_client(implicit(relay))
        relay.assert_sound()


def test_testssl_finds_nothing_weak(relay: RelayProcess, tmp_path: Path) -> None:
    """Its own verdict on protocols and groups of ciphers; LOW is what it gives CBC suites of TLS 1.2."""
    need("testssl", "testssl.sh")
    report = tmp_path / "report.csv"
    host, port = implicit(relay)
    subprocess.run(
        ["testssl", "--quiet", "--color", "0", "-p", "-s", "--csvfile", report, f"{host}:{port}"],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    rows = [row.strip('"').split('","') for row in report.read_text().splitlines()[1:]]
    verdicts = {row[0]: row[3] for row in rows if row[0].startswith(("SSL", "TLS", "cipherlist"))}
    assert {"SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3", "cipherlist_NULL", "cipherlist_3DES_IDEA"} <= set(
        verdicts
    )
    assert {name: verdict for name, verdict in verdicts.items() if verdict not in ("OK", "INFO", "LOW")} == {}


# Certificates


def shown_certificate(relay: RelayProcess) -> str:
    return ssl.get_server_certificate(implicit(relay), timeout=PATIENCE_S)


def test_sighup_brings_a_new_certificate_and_drops_nobody(tmp_path: Path, upstream: Upstream) -> None:
    old, new = make_pair(tmp_path / "old"), make_pair(tmp_path / "new")
    live = make_pair(tmp_path / "live")
    for source, target in ((old.cert_file, live.cert_file), (old.key_file, live.key_file)):
        shutil.copy(source, target)
    with (
        RelayProcess(tmp_path / "relay", config_for(upstream, tls=live.keys(), **FALLBACK)) as relay,
        RawClient(*implicit(relay), tls=trusting(old.cert_file)) as inside,
        RawClient(relay.host, relay.port) as before,
    ):
        assert [inside.status(), inside.say("EHLO c"), inside.say("MAIL FROM:<a@example.com>")][2] == "250 2.1.0"
        assert [before.status(), before.say("EHLO c")] == ["220", "250"]
        assert shown_certificate(relay) == Path(old.cert_file).read_text()
        for source, target in ((new.cert_file, live.cert_file), (new.key_file, live.key_file)):
            shutil.copy(source, target)
        relay.signal(signal.SIGHUP)
        relay.wait_for("reloaded")
        assert shown_certificate(relay) == Path(new.cert_file).read_text()
        assert inside.say("RCPT TO:<b@example.com>") == "250 2.1.5"
        starttls(before, old)  # it began with the old configuration, and ends with it

        # A key that is not the certificate's changes nothing.
        shutil.copy(old.key_file, live.key_file)
        relay.signal(signal.SIGHUP)
        assert "tls.key_file" in relay.wait_for("reload_failed")["reason"]
        assert shown_certificate(relay) == Path(new.cert_file).read_text()
        assert inside.say("NOOP") == "250 2.0.0"
        relay.assert_sound()


def test_a_reload_that_takes_tls_away(tmp_path: Path, upstream: Upstream, pair: Pair) -> None:
    """STARTTLS goes at once; the port for implicit TLS listens until the restart, and says nothing in clear."""
    with RelayProcess(tmp_path, config_for(upstream, tls=pair.keys())) as relay:
        relay.write_config(config_for(upstream))
        relay.signal(signal.SIGHUP)
        assert "tls.implicit_addr" in relay.wait_for("restart_needed")["reason"]
        with socket.create_connection(implicit(relay), PATIENCE_S) as client:
            assert client.recv(100) == b""
        assert "tls.cert_file" in relay.wait_for("tls_failed")["reason"]
        with relay.smtp() as client:
            assert not client.has_extn("starttls")
            assert client.has_extn("auth")
        relay.assert_sound()


def test_the_end_of_the_service_reaches_clients_in_tls(tmp_path: Path, upstream: Upstream, pair: Pair) -> None:
    """421 4.3.2, then close_notify: without it a careful client cannot tell our end from an attacker's."""
    with RelayProcess(tmp_path, config_for(upstream, tls=pair.keys())) as relay:
        contexts = [trusting(pair.cert_file) for _ in range(3)]
        clients = [RawClient(*implicit(relay), tls=context) for context in contexts]
        for client in clients:
            client.sock.suppress_ragged_eofs = False  # type: ignore[attr-defined]
            assert [client.status(), client.say("EHLO c")] == ["220", "250"]
        relay.signal(signal.SIGTERM)
        for client in clients:
            assert client.status() == "421 4.3.2"
            assert client.is_over()
            client.close()
        assert relay.wait() == 0
        assert relay.events("session_fault", "shutdown_timeout") == []
        assert relay.stderr == ""


def test_the_end_of_the_service_does_not_wait_for_a_handshake(tmp_path: Path, upstream: Upstream, pair: Pair) -> None:
    """Nothing is in flight there; on both ports, whether or not the handshake has begun."""
    config = config_for(upstream, tls=pair.keys(), command_timeout=300, shutdown_timeout=300)
    with RelayProcess(tmp_path, config) as relay, RawClient(relay.host, relay.port) as asked:
        silent = [socket.create_connection(implicit(relay), PATIENCE_S) for _ in range(2)]
        silent[1].sendall(b"\x16\x03\x01\x02")
        assert [asked.status(), asked.say("EHLO c"), asked.say("STARTTLS")] == ["220", "250", "220 2.0.0"]
        with RawClient(*implicit(relay), tls=trusting(pair.cert_file)) as behind:  # so all of them are accepted
            assert behind.status() == "220"
            relay.signal(signal.SIGTERM)
            assert relay.wait() == 0
        assert [sock.recv(1) for sock in silent] == [b"", b""]
        assert relay.events("session_fault", "shutdown_timeout", "tls_failed") == []
        assert relay.stderr == ""
        for sock in silent:
            sock.close()


def test_a_timeout_reaches_clients_in_tls(tmp_path: Path, upstream: Upstream, pair: Pair) -> None:
    with (
        RelayProcess(tmp_path, config_for(upstream, tls=pair.keys(), command_timeout=1)) as relay,
        RawClient(*implicit(relay), tls=trusting(pair.cert_file)) as client,
    ):
        client.sock.suppress_ragged_eofs = False  # type: ignore[attr-defined]
        assert [client.status(), client.status()] == ["220", "421 4.4.2"]
        assert client.is_over()
        relay.assert_sound()


# tls-cert


def test_tls_cert_makes_a_pair_that_works(tmp_path: Path, upstream: Upstream) -> None:
    """What it prints goes into the configuration as it is."""
    import yaml

    made = run_once("tls-cert", "--dir", tmp_path, "--name", "127.0.0.1", "--name", "relay.example")
    assert (made.returncode, made.stderr) == (0, "")
    keys = yaml.safe_load(made.stdout)["tls"]
    with RelayProcess(tmp_path / "relay", config_for(upstream, tls=keys)) as relay, relay.smtp() as client:
        context = trusting(keys["cert_file"])
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        client.starttls(context=context)
        assert client.noop()[0] == 250


def test_tls_cert_without_names_takes_the_hosts(tmp_path: Path) -> None:
    made = run_once("tls-cert", "--dir", tmp_path)
    assert made.returncode == 0
    shown = subprocess.run(
        ["openssl", "x509", "-in", tmp_path / "tls-cert.pem", "-noout", "-ext", "subjectAltName"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert f"DNS:{socket.gethostname()}" in shown
    assert "DNS:localhost" in shown
    assert "IP Address:127.0.0.1" in shown


def test_tls_cert_overwrites_nothing(tmp_path: Path) -> None:
    assert run_once("tls-cert", "--dir", tmp_path).returncode == 0
    before = (tmp_path / "tls-key.pem").read_bytes()
    again = run_once("tls-cert", "--dir", tmp_path)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == f"graph-smtp-relay: {tmp_path / 'tls-key.pem'}: is there already; move it away first\n"
    assert (tmp_path / "tls-key.pem").read_bytes() == before
    bad = run_once("tls-cert", "--dir", tmp_path / "none")
    assert (bad.returncode, len(bad.stderr.splitlines())) == (1, 1)
    odd = run_once("tls-cert", "--dir", tmp_path, "--name", "no name")
    assert (odd.returncode, odd.stderr) == (
        2,
        "graph-smtp-relay: --name no name: neither a host name nor an IP address\n",
    )
