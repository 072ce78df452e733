# SPDX-License-Identifier: MIT
"""The throw-away certificates: who signed, for which names, who can read the key."""

from __future__ import annotations

import ipaddress
import stat
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from relay.sandbox.certs import write_certificates


def test_certificates(tmp_path: Path) -> None:
    files = write_certificates(tmp_path, datetime.now(UTC))
    ca = x509.load_pem_x509_certificate(files.ca_file.read_bytes())
    server = x509.load_pem_x509_certificate(files.cert_file.read_bytes())
    assert server.issuer == ca.subject
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    wanted = [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]
    assert names.get_values_for_type(x509.IPAddress) == wanted
    assert stat.S_IMODE(files.key_file.stat().st_mode) == 0o600
