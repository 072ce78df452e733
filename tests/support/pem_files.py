# SPDX-License-Identifier: MIT
"""PEM files with a private key and a certificate, as an administrator makes them with openssl; and broken ones."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

PASS_PHRASE = "Öffne dich"
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


@functools.cache
def rsa_key(number: int = 0) -> rsa.RSAPrivateKey:
    """One of a few, made once: each takes a while."""
    return rsa.generate_private_key(65537, 2048)


def certificate(key: Any, name: str = "graph-smtp-relay") -> bytes:
    """A self-signed one, PEM."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOW)
        .not_valid_after(_NOW + timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def private(key: Any, pass_phrase: str = "", form: str = "PKCS8") -> bytes:
    """The key, PEM; encrypted where there is a pass phrase."""
    how: Any = serialization.NoEncryption()
    if pass_phrase:
        how = serialization.BestAvailableEncryption(pass_phrase.encode())
    return key.private_bytes(serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), how)


def usable(pass_phrase: str = "") -> bytes:
    """Key and certificate."""
    return private(rsa_key(), pass_phrase) + certificate(rsa_key())


def broken(what: str) -> bytes:
    """A file that no relay can use, for one reason."""
    elliptic = ec.generate_private_key(ec.SECP256R1())
    match what:
        case "no_certificate":
            return private(rsa_key())
        case "no_key":
            return certificate(rsa_key())
        case "another_key":
            return private(rsa_key()) + certificate(rsa_key(1))
        case "ec":
            return private(elliptic) + certificate(elliptic)
        case "pass_phrase":
            return usable(PASS_PHRASE)
        case "damaged":
            return private(rsa_key()) + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    return b"nothing of the kind"
