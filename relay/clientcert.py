# SPDX-License-Identifier: MIT
"""The client certificate of an app registration: a PEM file → key, thumbprint, chain. Knows no msal and no Entra ID.

cryptography is imported where it is needed: it loads slowly, and most configurations name no certificate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class BadCertificate(Exception):
    """Why a PEM file is of no use, in words that hold nothing of it."""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """key: PEM, without a pass phrase. thumbprint: SHA-1, in hexadecimal. chain: PEM, the key's own one first."""

    key: str = field(repr=False)
    thumbprint: str
    chain: str = field(repr=False)


def read_client_certificate(pem: bytes, pass_phrase: str) -> ClientCertificate:
    """What is in a PEM file with key and certificate, in any order. Raises BadCertificate.

    pass_phrase: opens the key, and is passed over where the key is not encrypted.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = _key(pem, pass_phrase)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise BadCertificate("the key is not an RSA key; Entra ID takes no other")
    try:
        certificates = [x509.load_pem_x509_certificate(one) for one in _CERTIFICATE.findall(pem)]
    except ValueError:
        raise BadCertificate("a certificate in it is damaged") from None
    numbers = key.public_key().public_numbers()
    chain = sorted(certificates, key=lambda one: _numbers(one) != numbers)  # stable: the others keep their order
    if not chain or _numbers(chain[0]) != numbers:
        raise BadCertificate("it holds no certificate in PEM form that belongs to its key")
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return ClientCertificate(
        plain.decode("ascii"),
        chain[0].fingerprint(hashes.SHA1()).hex(),  # noqa: S303 - a name, not a signature (x5t, RFC 7515 §4.1.7)
        "".join(one.public_bytes(serialization.Encoding.PEM).decode("ascii") for one in chain),
    )


def _key(pem: bytes, pass_phrase: str) -> Any:
    """The private key. A pass phrase for a key that has none is not at fault: client_secret may hold an old secret."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    encrypted = b"ENCRYPTED" in pem
    if encrypted and not pass_phrase:
        raise BadCertificate("the key is protected by a pass phrase; put it into client_secret")
    try:
        return load_pem_private_key(pem, pass_phrase.encode() if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        pass  # whose own text may quote
    if encrypted:
        raise BadCertificate("the pass phrase in client_secret does not open the key")
    raise BadCertificate("it holds no private key in PEM form")


def _numbers(certificate: Any) -> Any:
    """The numbers of an RSA certificate's key; None for another kind."""
    public_key = certificate.public_key()
    return public_key.public_numbers() if hasattr(public_key, "public_numbers") else None
