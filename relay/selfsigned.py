# SPDX-License-Identifier: MIT
"""A certificate for those who have none: signed by itself, with the host's names (RFC 5280). Knows no server.

RSA, since many old devices know nothing else. Clients that check certificates must be told to trust it.
"""

from __future__ import annotations

import ipaddress
import os
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


def write_pair(directory: Path, names: Sequence[str], now: datetime) -> tuple[Path, Path]:
    """Write tls-cert.pem and tls-key.pem (mode 0600) and say where they are. Raises OSError, also for files that exist.

    names: host names and IP addresses; the first is the common name.
    """
    certificate, key = make_pair(names, now)
    cert_file, key_file = directory / "tls-cert.pem", directory / "tls-key.pem"
    _write(key_file, key, 0o600)
    _write(cert_file, certificate, 0o644)
    return cert_file, key_file


def make_pair(names: Sequence[str], now: datetime) -> tuple[bytes, bytes]:
    """Certificate and private key in PEM form."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
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
        return x509.DNSName(name)


def _write(path: Path, octets: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(octets)
