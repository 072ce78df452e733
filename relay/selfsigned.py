# SPDX-License-Identifier: MIT
"""A certificate for those who have none: signed by itself, with the host's names (RFC 5280). Knows no server.

RSA, since many old devices know nothing else. Clients that check certificates must be told to trust it.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

_KEY_BITS = 2048
_LIFETIME = timedelta(days=3650)  # nobody renews what a device was told to trust
_SKEW = timedelta(days=1)
_HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?", re.IGNORECASE)
_KEY_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=True,  # RSA key exchange, which is all that some devices know
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


class BadName(Exception):
    """This is neither a host name nor an IP address."""


def write_pair(directory: Path, names: Sequence[str], now: datetime) -> tuple[Path, Path]:
    """Write tls-cert.pem and tls-key.pem (mode 0600) and say where they are.

    names: host names and IP addresses; the first is the common name. Raises OSError, also for files that exist, and
    BadName.
    """
    certificate, key = make_pair(names, now)
    cert_file, key_file = directory / "tls-cert.pem", directory / "tls-key.pem"
    _write(key_file, key, 0o600)
    try:
        _write(cert_file, certificate, 0o644)
    except OSError:
        key_file.unlink()  # half a pair would stand in the way of the next try
        raise
    return cert_file, key_file


def make_pair(names: Sequence[str], now: datetime) -> tuple[bytes, bytes]:
    """Certificate and private key in PEM form. Raises BadName."""
    alternatives = [_general_name(name) for name in names]
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(alternatives[0].value)[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        # These three: RFC 5280 §4.2.1 asks a CA for them, and Python 3.13 refuses a certificate without.
        .add_extension(_KEY_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        ascii_name = name.encode("idna").decode("ascii")
    except UnicodeError:
        raise BadName(name) from None
    if not _HOST_NAME.fullmatch(ascii_name) or len(ascii_name) > 253:
        raise BadName(name)
    return x509.DNSName(ascii_name)


def _write(path: Path, octets: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(octets)
