# SPDX-License-Identifier: MIT
"""A client assertion as Entra ID checks it: a JWT that the app signed with its certificate's key (RFC 7523 §3).

Shares nothing with msal, which makes them: RS256 with x5t, or PS256 with x5t#S256 (RFC 7515 §4.1.7, §4.1.8).
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LONGEST_LIFE_S = 24 * 3600


def is_signed(assertion: str, certificate_pem: str, audience: str, client_id: str, now: datetime) -> bool:
    """Whether the assertion says: this app, to this token endpoint, now; and this certificate's key signed it."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode("ascii"))
        signed, _, signature = assertion.encode("ascii").rpartition(b".")
        header, claims = (json.loads(_decoded(part)) for part in signed.split(b"."))
        _check_signature(header, certificate, signed, _decoded(signature))
    except (ValueError, binascii.Error, InvalidSignature):
        return False
    at = now.timestamp()
    return (
        claims.get("aud") == audience
        and claims.get("iss") == claims.get("sub") == client_id
        and bool(claims.get("jti"))
        and at < claims.get("exp", 0) <= at + _LONGEST_LIFE_S
    )


def _check_signature(header: Any, certificate: x509.Certificate, signed: bytes, signature: bytes) -> None:
    """Raises InvalidSignature, ValueError."""
    key = certificate.public_key()
    if not isinstance(header, dict) or not isinstance(key, rsa.RSAPublicKey):
        raise ValueError("not a header, or not an RSA key")
    marks = {
        "x5t": certificate.fingerprint(hashes.SHA1()),  # noqa: S303 - a name, not a signature
        "x5t#S256": certificate.fingerprint(hashes.SHA256()),
    }
    if not any(mark == _decoded(str(header.get(name, "")).encode("ascii")) for name, mark in marks.items()):
        raise ValueError("another certificate's thumbprint")
    how: Any = {
        "RS256": padding.PKCS1v15(),
        "PS256": padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size),
    }.get(str(header.get("alg")))
    if how is None:
        raise ValueError("another algorithm")
    key.verify(signature, signed, how, hashes.SHA256())


def _decoded(part: bytes) -> bytes:
    """Base64url, with padding or without."""
    return base64.urlsafe_b64decode(part.rstrip(b"=") + b"=" * (-len(part.rstrip(b"=")) % 4))
