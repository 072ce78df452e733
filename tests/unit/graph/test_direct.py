# SPDX-License-Identifier: MIT
"""Direct connections against a server that says what it is told: kept ones, answers of every kind, faults."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests

from relay.graph import direct
from relay.graph.http import http_session
from relay.selfsigned import write_pair

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n\r\nok"
Serve = Callable[[socket.socket, int], None]


@contextmanager
def server(serve: Serve) -> Iterator[str]:
    """serve gets each connection and its number; the connection ends with it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)

        def accept() -> None:
            number = 0
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    sock.settimeout(60)
                    serve(sock, number)
                number += 1

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/path?a=b"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def read_request(sock: socket.socket) -> bytes:
    """One request with a Content-Length; empty when the client is gone."""
    octets = b""
    while b"\r\n\r\n" not in octets:
        piece = sock.recv(65536)
        if not piece:
            return b""
        octets += piece
    head, _, body = octets.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while len(body) < int(lengths[0] if lengths else 0):
        body += sock.recv(65536)
    return head + b"\r\n\r\n" + body


def answers(*octets: bytes) -> Serve:
    """Each request gets the next of these, on whichever connection it comes; behind the last one it ends."""
    left = list(octets)

    def serve(sock: socket.socket, _: int) -> None:
        while left and read_request(sock):
            sock.sendall(left.pop(0))

    return serve


def ask(url: str, session: requests.Session, **options: object) -> requests.Response:
    return session.post(url, data=b"body", timeout=(60, 60), allow_redirects=False, **options)  # type: ignore[arg-type]


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with http_session("http://127.0.0.1", 10, "", "") as made:
        yield made


def test_the_request(session: requests.Session) -> None:
    seen: list[bytes] = []

    def serve(sock: socket.socket, _: int) -> None:
        seen.append(read_request(sock))
        sock.sendall(OK)

    with server(serve) as url:
        assert ask(url, session).text == "ok"
        authority = url.split("/")[2].encode()
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[:2] == [b"POST /path?a=b HTTP/1.1", b"Host: " + authority]
    assert {b"Content-Length: 4", b"User-Agent: graph-smtp-relay", b"Accept-Encoding: identity"} <= set(lines)
    assert body == b"body"


def test_a_connection_is_kept(session: requests.Session) -> None:
    numbers: list[int] = []

    def serve(sock: socket.socket, number: int) -> None:
        while read_request(sock):
            numbers.append(number)
            sock.sendall(OK)

    with server(serve) as url:
        assert [ask(url, session).status_code for _ in range(3)] == [200] * 3
        session.close()
    assert numbers == [0, 0, 0]


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (OK, 200, b"ok"),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", 202, b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, b"ok"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok"),
        (b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, 200, b"ok"),
        (b"HTTP/1.1 200\r\ncontent-LENGTH:2\r\n\r\nok", 200, b"ok"),
        (b"HTTP/1.0 503 Busy\r\nRetry-After: 3\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", 503, b""),
        (b"HTTP/1.1 400 Bad\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000, 400, b"x" * 200_000),
    ],
    ids=["plain", "empty", "204", "chunked", "continue", "interim", "no-reason", "http-1.0", "long"],
)
def test_answers(session: requests.Session, answer: bytes, status: int, body: bytes) -> None:
    """And the next one on the same connection is read from its beginning."""
    with server(answers(answer, answer)) as url:
        for _ in range(2):
            response = ask(url, session)
            assert (response.status_code, response.content) == (status, body)
        session.close()


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 10\r\n\r\n%s", b"Transfer-Encoding: chunked\r\n\r\na\r\n%s\r\n0\r\n\r\n"]
)
def test_the_charset_of_an_answer_is_not_guessed(session: requests.Session, framing: bytes) -> None:
    """msal reads its text; a short one in UTF-8 can be taken for many things."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    with server(answers(head + framing % '{"a":"é"}'.encode().ljust(10))) as url:
        response = ask(url, session)
        assert response.encoding == "utf-8"


def test_an_answer_that_ends_with_the_connection(session: requests.Session) -> None:
    def serve(sock: socket.socket, number: int) -> None:
        read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nX-Number: %d\r\n\r\nto the end" % number)

    with server(serve) as url:
        for number in range(2):
            response = ask(url, session)
            assert (response.text, response.headers["x-number"]) == ("to the end", str(number))


def test_connection_close(session: requests.Session) -> None:
    def serve(sock: socket.socket, number: int) -> None:
        read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: Close\r\nX-Number: %d\r\nContent-Length: 0\r\n\r\n" % number)

    with server(serve) as url:
        assert [ask(url, session).headers["x-number"] for _ in range(2)] == ["0", "1"]


def test_one_that_ended_while_it_rested_is_not_used(session: requests.Session) -> None:
    ended = threading.Event()

    def serve(sock: socket.socket, number: int) -> None:
        read_request(sock)
        sock.sendall(OK)
        if number == 0:
            sock.close()
            ended.set()

    with server(serve) as url:
        for _ in range(2):
            assert ask(url, session).text == "ok"
            assert ended.wait(60)


def test_a_body_that_breaks_off_leaves_the_status(session: requests.Session) -> None:
    with server(answers(b"HTTP/1.1 429 Slow down\r\nContent-Length: 100\r\n\r\nshort")) as url:
        response = ask(url, session, stream=True)
        assert response.status_code == 429
        with pytest.raises(requests.RequestException):
            _ = response.content


@pytest.mark.parametrize("length", [10**9, 10**12, 10**20])
def test_a_length_that_nobody_can_hold_leaves_the_status(session: requests.Session, length: int) -> None:
    """A 202 least of all may come to nothing for what stands behind it."""
    with server(answers(b"HTTP/1.1 202 Accepted\r\nContent-Length: %d\r\n\r\n{}" % length)) as url:
        response = ask(url, session, stream=True)
        assert response.status_code == 202
        with pytest.raises(requests.RequestException):
            _ = response.content


@pytest.mark.parametrize("framing", [b"Content-Length: 5000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n1388\r\n"])
def test_a_body_without_end_is_not_read_to_it(
    session: requests.Session, framing: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was left of it is not taken for the next answer."""
    monkeypatch.setattr(direct, "_MOST_BODY", 1000)

    def serve(sock: socket.socket, number: int) -> None:
        read_request(sock)
        sock.sendall(OK if number else b"HTTP/1.1 400 Bad\r\n" + framing + b"HTTP/1.1 200 OK\r\n" * 200)

    with server(serve) as url:
        response = ask(url, session, stream=True)
        assert response.status_code == 400
        with pytest.raises(requests.RequestException):
            _ = response.content
        assert ask(url, session).text == "ok"


def test_a_body_that_stalls_leaves_the_status(session: requests.Session) -> None:
    heard = threading.Event()

    def serve(sock: socket.socket, _: int) -> None:
        read_request(sock)
        sock.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\n")
        assert heard.wait(60)

    with server(serve) as url:
        response = session.post(url, data=b"body", timeout=(60, 3), stream=True)
        heard.set()
        assert response.status_code == 202


FOUR_DIGITS = b"HTTP/1.1 2020 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 2", b"220 mail.example ESMTP\r\n", b"\r\n\r\n", FOUR_DIGITS])
def test_no_answer(session: requests.Session, answer: bytes) -> None:
    with server(answers(answer)) as url, pytest.raises(requests.ConnectionError):
        ask(url, session)


def test_an_answer_before_all_of_the_body_is_heard(session: requests.Session) -> None:
    def serve(sock: socket.socket, _: int) -> None:
        sock.recv(1000)
        sock.sendall(b"HTTP/1.1 413 Too large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass

    with server(serve) as url:
        assert session.post(url, data=b"x" * 10_000_000, timeout=(60, 60)).status_code == 413


def test_the_same_where_tls_says_it_in_its_own_words(tmp_path: Path) -> None:
    """ssl.SSLEOFError, where a bare socket has a broken pipe."""
    certificate, key = write_pair(tmp_path, ["127.0.0.1"], datetime.now(UTC))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    gone = threading.Event()

    def serve(plain: socket.socket, _: int) -> None:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_side=True) as sock:
            sock.recv(1000)
            sock.sendall(b"HTTP/1.1 413 Too large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        gone.set()

    def body() -> Iterator[bytes]:
        yield b"x" * 500
        assert gone.wait(60)
        yield from [b"x" * 10_000] * 1000

    with server(serve) as url, http_session(url, 10, "", str(certificate)) as session:
        secure = url.replace("http:", "https:")
        request = requests.Request("POST", secure, data=body(), headers={"Content-Length": "10000500"}).prepare()
        assert session.send(request, timeout=(60, 60)).status_code == 413


def test_nobody_listens(session: requests.Session) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    with pytest.raises(requests.ConnectionError):
        ask(url, session)


@pytest.mark.parametrize("value", ["a\r\nX-Evil: b", "a\nb", "a\rb"])
def test_a_field_that_would_be_two_is_not_sent(session: requests.Session, value: str) -> None:
    with server(answers()) as url:
        request = requests.Request("POST", url, headers={"X-A": "a"}).prepare()
        request.headers["X-A"] = value
        with pytest.raises(ValueError, match="cannot be sent"):
            session.send(request, timeout=(60, 60))


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (ssl.SSLCertVerificationError("no"), requests.exceptions.SSLError),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), requests.ConnectionError),
        (ssl.SSLEOFError(8, "[SSL: UNEXPECTED_EOF_WHILE_READING]"), requests.ConnectionError),
    ],
)
def test_only_a_certificate_is_called_one(fault: ssl.SSLError, expected: type[Exception]) -> None:
    """For the advice in the log: ca_bundle helps nobody before a box that speaks no TLS."""
    fault.verify_message, fault.reason = "no", "NO"  # type: ignore[attr-defined]
    assert type(direct._as_requests(fault, requests.ConnectTimeout)) is expected
