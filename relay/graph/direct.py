# SPDX-License-Identifier: MIT
"""Kept HTTP connections with no proxy between: one request, one answer (RFC 9112). Knows no Graph and no tokens.

It stands behind requests.Session where the way is direct. urllib3 looks up pools, retries and URLs for each message
anew, and wraps each answer twice: that took more than all of SMTP. The TLS settings are still urllib3's, and the answer
is read by http.client.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import requests
from requests.exceptions import ChunkedEncodingError, ConnectTimeout, ReadTimeout, SSLError
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.ssl_ import create_urllib3_context

from relay.clock import give_way
from relay.tlslayer import TlsLayer

SocketOption = tuple[int, int, int]

_PIECE = 65536
_BODY_PATIENCE_S = 10.0  # of an answer; its status is known by then, and decides
_MOST_BODY = 16_777_216  # octets of an answer, whatever it says of its length; Graph's longest are a few MB
_PLAIN_STATUS = re.compile(r"HTTP/1\.1 (?P<status>[2-5][0-9][0-9])(?: (?P<reason>[^\r\n]*))?")
_BLANK = vars(requests.Response())  # its jar of cookies takes longer to make than an answer to read; it stays empty


class _TlsSocket:
    """A socket with TLS on it, for as much of it as is used here."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        """We are the client. The last part of the handshake leaves with the first request. Raises OSError."""
        self._sock = sock
        self._layer = TlsLayer(context, host)
        self._ahead = self._layer.shake_hands(sock.recv, sock.sendall)

    def recv(self, size: int) -> bytes:
        """About so many octets; empty: the end."""
        octets, self._ahead = self._ahead, b""
        while not octets and not self._layer.ended:
            sealed = self._sock.recv(size)
            if not sealed:
                break
            octets = self._layer.opened(sealed)
            if not octets and (due := self._layer.due()):
                self._sock.sendall(due)
        return octets

    def send(self, octets: bytes) -> int:
        """All of them."""
        sealed = self._layer.sealed(octets)
        sent = self._sock.send(sealed)
        if sent < len(sealed):
            self._sock.sendall(memoryview(sealed)[sent:])
        return len(octets)

    sendall = send

    def settimeout(self, seconds: float | None) -> None:
        self._sock.settimeout(seconds)

    def gettimeout(self) -> float | None:
        return self._sock.gettimeout()

    def close(self) -> None:
        self._sock.close()


_Socket = socket.socket | _TlsSocket


class DirectConnections:
    """Connections to any host, each kept behind its answer for the next request to the same one."""

    def __init__(self, ca_bundle: str, most_kept: int, options: Sequence[SocketOption]) -> None:
        """ca_bundle: file or directory; empty: the authorities that requests goes by. most_kept: to one host."""
        self._ca_bundle = ca_bundle
        self._most_kept = most_kept
        self._options = options
        self._context: ssl.SSLContext | None = None
        self._resting: dict[tuple[str, str], list[_Socket]] = {}  # by scheme and authority

    def send(self, request: requests.PreparedRequest, connect_timeout_s: float, timeout_s: float) -> requests.Response:
        """The answer, read to its end. Raises requests' exceptions; ValueError for a field that cannot be sent."""
        url = urlsplit(request.url or "")
        resting = self._resting.setdefault((url.scheme, url.netloc), [])
        sock = _take(resting)
        try:
            if sock is None:
                sock = self._connect(url, connect_timeout_s)
        except (OSError, http.client.HTTPException) as fault:
            raise _as_requests(fault, ConnectTimeout) from None
        try:
            sock.settimeout(timeout_s)
            sent = _send(sock, request, url)
            response, stays = _read(sock, request)
        except (OSError, http.client.HTTPException) as fault:
            sock.close()
            raise _as_requests(fault, ReadTimeout) from None
        except BaseException:  # raised on; gevent ends greenlets and waits by these too
            sock.close()
            raise
        if sent and stays and len(resting) < self._most_kept:
            resting.append(sock)
        else:
            sock.close()
        return response

    def close(self) -> None:
        """End those that rest; one in use is kept behind its answer, and ends with the session."""
        for resting in self._resting.values():
            while resting:
                resting.pop().close()

    def _connect(self, url: SplitResult, timeout_s: float) -> _Socket:
        host = url.hostname or ""
        secure = url.scheme == "https"
        sock = socket.create_connection((host, url.port or (443 if secure else 80)), timeout_s)
        try:
            for option in self._options:
                sock.setsockopt(*option)
            return _TlsSocket(sock, self._tls(), host) if secure else sock
        except BaseException:  # raised on, as above
            sock.close()
            raise

    def _tls(self) -> ssl.SSLContext:
        """One for all: reading some hundred authorities takes a core for 10 ms and a MiB, each time."""
        if self._context is None:
            context = create_urllib3_context()
            context.verify_mode = ssl.CERT_REQUIRED
            context.check_hostname = True
            path = self._ca_bundle or DEFAULT_CA_BUNDLE_PATH
            context.load_verify_locations(**{"capath" if Path(path).is_dir() else "cafile": path})
            self._context = context
        return self._context


def _as_requests(fault: Exception, timeout: type[requests.Timeout]) -> Exception:
    """What sockets and http.client raise as requests would have raised it. The texts may quote a header: left out."""
    if isinstance(fault, TimeoutError):
        return timeout()
    if isinstance(fault, ssl.SSLCertVerificationError):
        return SSLError(fault.verify_message)
    if isinstance(fault, ssl.SSLError):  # no certificate is at fault: what answers there speaks no TLS, or hangs up
        return requests.ConnectionError(fault.reason)
    return requests.ConnectionError(type(fault).__name__)


def _take(resting: list[_Socket]) -> _Socket | None:
    """The one that was used last, or the next; one that has ended meanwhile, or has anything to say, is no use."""
    while resting:
        sock = resting.pop()
        try:
            sock.settimeout(0)
            sock.recv(_PIECE)
        except BlockingIOError:
            return sock
        except (OSError, ValueError):
            pass
        sock.close()
    return None


def _send(sock: _Socket, request: requests.PreparedRequest, url: SplitResult) -> bool:
    """Whether all went; where not, an answer may be there already (413). The head leaves with the first piece."""
    target = f"{url.path or '/'}{'?' if url.query else ''}{url.query}"
    lines = [f"{request.method} {target} HTTP/1.1", f"Host: {url.netloc}", "Accept-Encoding: identity"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    text = "".join(lines)
    if "\r" in text or "\n" in text or " " in target:
        raise ValueError("a header field or the URL cannot be sent")
    head = "\r\n".join([*lines, "\r\n"])
    body = request.body or b""
    if isinstance(body, str):
        body = body.encode()
    pieces = iter((body,) if isinstance(body, bytes) else body)
    try:
        octets = head.encode("latin-1") + bytes(next(pieces, b""))
        sent = sock.send(octets)
        if sent < len(octets):  # sendall() asks the system for the size of its buffer first, each time
            sock.sendall(octets[sent:])
        for piece in pieces:
            give_way()
            sock.sendall(piece)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def _read(sock: _Socket, request: requests.PreparedRequest) -> tuple[requests.Response, bool]:
    """The answer, and whether the connection can take another request."""
    octets = sock.recv(_PIECE)
    response = requests.Response.__new__(requests.Response)
    vars(response).update(_BLANK, request=request, url=request.url or "")  # and its headers below
    stays = _take_plain(response, octets) or _take_any(response, octets, sock, request)
    return response, stays


def _take_plain(response: requests.Response, octets: bytes) -> bool:
    """Fill in an answer that came in one piece and says how long it is, as nearly all do; False for any other."""
    head, _, body = octets.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    plain = _PLAIN_STATUS.fullmatch(first)
    if plain is None:
        return False
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not name or not colon or "\r" in value or "\n" in value:
            return False
        fields[name.lower()] = value.strip(" \t")
    names = "".join(fields)
    if " " in names or not (names.isascii() and names.isprintable()):
        return False
    if fields.get("content-length") != str(len(body)) or "transfer-encoding" in fields:
        return False
    if fields.get("connection", "keep-alive").lower() != "keep-alive":
        return False
    response.status_code, response.reason = int(plain["status"]), plain["reason"] or ""
    response.headers = _Fields(fields)  # type: ignore[assignment]
    vars(response).update(_content=body, _content_consumed=True)  # requests would read it through a generator
    if body:
        response.encoding = requests.utils.get_encoding_from_headers(response.headers)
    return True


def _take_any(response: requests.Response, octets: bytes, sock: _Socket, request: requests.PreparedRequest) -> bool:
    """Fill in whatever http.client can read; whether the connection can take another request."""
    answer = _final_answer(_Received(octets, sock), request)
    try:
        response.status_code, response.reason = answer.status, answer.reason
        fields = {name.lower(): value for name, value in answer.headers.items()}
        response.headers = _Fields(fields)  # type: ignore[assignment]
        response.encoding = requests.utils.get_encoding_from_headers(response.headers)
        sock.settimeout(min(sock.gettimeout() or _BODY_PATIENCE_S, _BODY_PATIENCE_S))
        try:
            response.raw = io.BytesIO(answer.read(_MOST_BODY))
        except (OSError, http.client.HTTPException):
            response.raw = _BrokenOff()
            return False
        # It goes on, or broke off before the length that it named; without one, it ends with the connection.
        if not answer.isclosed() and (answer.chunked or answer.length is not None):
            response.raw = _BrokenOff()
        return answer.isclosed() and not answer.will_close
    finally:
        answer.close()


def _final_answer(received: _Received, request: requests.PreparedRequest) -> http.client.HTTPResponse:
    """The head of the one behind all interim ones (RFC 9110 §15.2), of which http.client passes over 100 alone."""
    while True:
        answer = http.client.HTTPResponse(received, method=request.method)  # type: ignore[arg-type]
        answer.begin()
        if answer.status >= 200 or answer.status == http.HTTPStatus.SWITCHING_PROTOCOLS:
            return answer
        answer.fp = None  # type: ignore[assignment]  # it would close what the next one is read from


class _Fields(dict[str, str]):
    """The fields of an answer by names in lower case, to be asked for in any: what requests has takes far longer."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


class _Received(io.RawIOBase):
    """A socket of which some octets have been read, as http.client wants one."""

    def __init__(self, octets: bytes, sock: _Socket) -> None:
        self._octets = octets
        self._sock = sock
        self._reader: io.BufferedReader = io.BufferedReader(self)

    def makefile(self, mode: str) -> io.BufferedReader:
        """The same for each answer, since it may have read beyond the end of one."""
        return self._reader

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._octets:
            self._octets = self._sock.recv(_PIECE)
        size = min(len(buffer), len(self._octets))
        buffer[:size], self._octets = self._octets[:size], self._octets[size:]
        return size


class _BrokenOff(io.RawIOBase):
    """The body of an answer that ended too early: its status counts all the same."""

    def read(self, size: int = -1, /) -> bytes:
        raise ChunkedEncodingError("the answer broke off")
