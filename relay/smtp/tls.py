# SPDX-License-Identifier: MIT
"""TLS on the SMTP side: contexts for STARTTLS (RFC 3207) and implicit TLS (RFC 8314 §3). Knows no commands."""

from __future__ import annotations

import ssl

from relay.config import OLD_TLS, OLD_TLS_CIPHERS

_VERSIONS = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}


def server_context(cert_file: str, key_file: str, min_version: str) -> ssl.SSLContext:
    """A context with this chain and key. Raises OSError (ssl.SSLError is one) when they cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if min_version in OLD_TLS:
        context.set_ciphers(OLD_TLS_CIPHERS)
    context.minimum_version = _VERSIONS[min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # A pass phrase would be asked for on the terminal.
    context.load_cert_chain(cert_file, key_file, password=lambda: "")
    return context


HUNG_UP = "the client hung up during the handshake"
_WHY = {
    "UNEXPECTED_EOF_WHILE_READING": HUNG_UP,
    "UNSUPPORTED_PROTOCOL": "the client speaks only TLS versions older than tls.min_version",
    "NO_SHARED_CIPHER": "the client knows none of our ciphers; an old device may need tls.min_version TLSv1",
    "HTTP_REQUEST": "the client speaks HTTP",
    "WRONG_VERSION_NUMBER": "the client does not speak TLS here; an implicit TLS port wants TLS from the first byte",
    "TLSV1_ALERT_UNKNOWN_CA": "the client does not trust our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the client does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the client does not accept our certificate",
}


def why_failed(fault: Exception) -> str:
    """Why a handshake failed, in words for the log."""
    if isinstance(fault, TimeoutError):
        return "the client did not finish the handshake in time"
    reason = getattr(fault, "reason", None)
    if isinstance(reason, str):
        return _WHY.get(reason, f"OpenSSL says {reason.lower().replace('_', ' ')}")
    return HUNG_UP
