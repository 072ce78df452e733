# SPDX-License-Identifier: MIT
"""The sandbox over the wire: HTTP/1.1 over TLS, one port for Entra ID, Graph and control. Decides nothing.

The route table says who answers; scripted faults are carried out here, since only here is a connection to be
cut. The only file of the sandbox that knows gevent. Bodies and credentials are never logged; a client that goes
away early is no error, and a real one leaves its traceback on standard error.
"""

from __future__ import annotations

import errno
import socket
import ssl
import struct
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn

import gevent
from gevent.event import Event
from gevent.pool import Pool
from gevent.pywsgi import WSGIHandler, WSGIServer
from gevent.ssl import SSLContext

from relay.clock import Clock
from relay.sandbox.capture import Captured, save
from relay.sandbox.certs import write_certificates
from relay.sandbox.control import KEPT_MESSAGES, Control, Stats
from relay.sandbox.entra import Entra, requested_user
from relay.sandbox.faults import Fault, Faults
from relay.sandbox.graph import Graph
from relay.sandbox.graph_errors import error_answer as graph_error_answer
from relay.sandbox.model import Answer, Request, SandboxSettings
from relay.sandbox.routes import (
    CONTROL,
    Route,
    fault_answer,
    find_route,
    make_routes,
    no_route_answer,
    split_path,
)
from relay.sandbox.tokens import Tokens

__all__ = ["Captured", "Fault", "Sandbox", "SandboxSettings"]

_MAX_BODY = 200 * 1000 * 1000
_CHUNK = 256 * 1024
_SLOW_PIECES = 10
_BACKLOG = 1024  # a load test opens a hundred connections at once
_PHRASES = {item.value: item.phrase for item in HTTPStatus}


class _Gone(ConnectionResetError):
    """The connection is over. pywsgi passes over this errno in silence and closes."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "connection is over")


class Sandbox:
    """The stand-in: start() serves in the background of this thread's gevent hub, stop() cuts all connections.

    url serves as authority and as graph_url alike and is known after start(); ca_file verifies its certificate.
    messages holds the last 10,000. faults is for scripting. on_message is called before the 202 goes out.
    """

    def __init__(
        self,
        settings: SandboxSettings,
        directory: Path,
        on_message: Callable[[Captured], None] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.messages: deque[Captured] = deque(maxlen=KEPT_MESSAGES)
        self.received = 0
        self.faults = Faults()
        self.stats = Stats()
        self.url = ""
        self._settings = settings
        self._on_message = on_message
        self._address = (host, port)
        self._clock = Clock()
        self._tokens = Tokens(self._clock)
        self._graph = Graph(settings, self._tokens, self._clock, self._captured)
        self._files = write_certificates(directory, self._clock.now())
        self.ca_file = self._files.ca_file
        self._routes: tuple[Route, ...] = ()
        self._server: _Server | None = None
        self._released = Event()

    def start(self) -> None:
        """Bind and serve. Raises OSError where the port is taken."""
        context = SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._files.cert_file, self._files.key_file)
        server = _Server(self._address, self._serve, context)
        server.start()
        host, port = server.address[:2]
        self.url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        entra = Entra(self._settings, self.url, self._tokens, self._clock)
        control = self._control() if self._settings.control else None
        self._routes = make_routes(entra, self._graph, control)
        self._server = server

    def stop(self) -> None:
        """Stop serving and cut what is open; harmless when not started."""
        if self._server is not None:
            self._server.stop(timeout=0)
            self._server = None

    def _captured(self, captured: Captured) -> None:
        self.received += 1
        self.messages.append(captured)
        if self._settings.save_dir is not None:
            save(captured, self._settings.save_dir, self.received)
        if self._on_message is not None:
            self._on_message(captured)

    def _clear_messages(self) -> None:
        self.messages.clear()
        self.received = 0
        self._graph.store.clear()
        self._graph.uploads.clear()

    def _control(self) -> Control:
        return Control(
            self.messages,
            lambda: self.received,
            self.faults,
            self.stats,
            self._tokens,
            self._clear_messages,
            self._released.clear,
            self._released.set,
        )

    def _serve(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """The WSGI application."""
        handler: _Handler = environ["sandbox.handler"]
        path, _, query = handler.path.partition("?")
        request = Request(
            method=handler.command,
            segments=split_path(path),
            query=query,
            headers={name.lower(): value for name, value in handler.headers.items()},
            request_id=str(uuid.uuid4()),
        )
        answer, slow_s = self._counted_answer(handler, request)
        headers = [*answer.headers, ("request-id", request.request_id)]
        headers.append(("client-request-id", request.client_request_id))
        if answer.status not in (204, 304):
            headers.append(("Content-Length", str(len(answer.body))))
        start_response(f"{answer.status} {_PHRASES.get(answer.status, 'Unknown')}", headers)
        return _slowly(answer.body, slow_s) if slow_s and answer.body else [answer.body]

    def _counted_answer(self, handler: _Handler, request: Request) -> tuple[Answer, float]:
        """The answer, and over how many seconds its body is to be spread."""
        route = find_route(self._routes, request)
        if route is None:
            return no_route_answer(self._routes, request, self._clock.now()), 0.0
        if route.kind == CONTROL:
            return route.handle(replace(request, body=handler.read_body())), 0.0
        user = self._graph.user_of(request)
        mailbox = request.segments[route.mailbox_at] if route.mailbox_at >= 0 else user
        status = 0
        self.stats.began(mailbox)
        try:
            answer, slow_s = self._answer(handler, request, route, [mailbox, user])
            status = answer.status
        finally:
            self.stats.ended(mailbox, route.kind, status)
        return answer, slow_s

    def _answer(self, handler: _Handler, request: Request, route: Route, names: list[str]) -> tuple[Answer, float]:
        """As above, with the faults that wait for this request carried out. names: mailbox and user."""
        if self.faults.resets_before_body(route.kind, names):
            handler.abort()
        request = replace(request, body=handler.read_body())
        most = self._settings.mailbox_concurrency
        if most and route.mailbox_at >= 0 and self.stats.running(names[0]) > most:
            text = "Application is over its MailboxConcurrency limit."
            return graph_error_answer(request, self._clock.now(), 429, "ApplicationThrottled", text), 0.0
        if route.kind == "token":
            names = [requested_user(request)]
        verdict = self.faults.take(route.kind, names)
        fault = verdict.fault or Fault()
        # Accepted before the wait: a client that gives up meanwhile has sent its message all the same.
        answer = route.handle(request) if fault.accept else None
        if verdict.hold:
            self._released.wait()
        if verdict.delay_s:
            gevent.sleep(verdict.delay_s)
        if fault.reset:
            handler.abort()
        if fault.hang:
            handler.wait_for_close()
        if fault.status:
            answer = fault_answer(fault, route.kind, request, self._clock.now())
        answer = answer or route.handle(request)
        if fault.retry_after:
            answer = replace(answer, headers=(*answer.headers, ("Retry-After", fault.retry_after)))
        return answer, fault.slow_s


def _slowly(body: bytes, seconds: float) -> Iterator[bytes]:
    """The body in ten pieces, spread over that time."""
    size = -(-len(body) // _SLOW_PIECES)
    for start in range(0, len(body), size):
        gevent.sleep(seconds / _SLOW_PIECES)
        yield body[start : start + size]


class _Server(WSGIServer):  # type: ignore[misc]  # gevent has no types
    """pywsgi over TLS, without its access log, with connections that end when it stops."""

    def __init__(self, address: tuple[str, int], application: Callable[..., Any], context: SSLContext) -> None:
        super().__init__(
            address,
            application,
            backlog=_BACKLOG,
            spawn=Pool(),  # without a pool, stop() would leave open connections alone
            log=None,
            error_log=None,
            handler_class=_Handler,
            ssl_context=context,
        )

    def wrap_socket_and_handle(self, client_socket: Any, address: Any) -> None:
        """One connection. A handshake that fails and a client that hangs up are ordinary endings."""
        client_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            super().wrap_socket_and_handle(client_socket, address)
        except OSError:
            client_socket.close()


class _Handler(WSGIHandler):  # type: ignore[misc]  # gevent has no types
    """One connection, with what only it can do: read the body in pieces, and end without an answer."""

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        environ["sandbox.handler"] = self
        return environ

    def read_body(self) -> bytes:
        """The whole body. A client that goes away meanwhile, or sends more than the cap, is cut off."""
        body = bytearray()
        try:
            while chunk := self.wsgi_input.read(_CHUNK):
                body += chunk
                if len(body) > _MAX_BODY:
                    self.abort()
        except OSError:
            raise _Gone from None
        return bytes(body)

    def abort(self) -> NoReturn:
        """End with a TCP reset instead of a FIN, and read nothing more. Always raises."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._leave()

    def wait_for_close(self) -> NoReturn:
        """Answer nothing, for as long as the client has patience. Always raises."""
        try:
            while self.socket.recv(_CHUNK):
                pass
        finally:
            self._leave()

    def _leave(self) -> NoReturn:
        self.wsgi_input.content_length = 0  # so that pywsgi does not drain what was not read
        self.wsgi_input.chunked_input = False
        raise _Gone

    def _sendall(self, data: bytes) -> None:
        try:
            super()._sendall(data)
        except OSError:
            raise _Gone from None

    def log_request(self) -> None:
        """Nothing: pywsgi would format a line that nobody reads."""

    def handle_error(self, kind: Any, error: Any, traceback: Any) -> None:
        """pywsgi's traceback and 500, but for a connection that stop() cuts."""
        self.close_connection = True
        if not issubclass(kind, gevent.GreenletExit):
            super().handle_error(kind, error, traceback)
