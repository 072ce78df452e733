# SPDX-License-Identifier: MIT
"""The self-signed pair: readable by its owner alone, with the names asked for, and good for the strictest client."""

from __future__ import annotations

import ssl
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from relay.clock import Clock
from relay.selfsigned import BadName, make_pair, write_pair

NOW = Clock().now()
NAMES = ["relay.example", "bücher.example", "192.0.2.1", "2001:db8::1", "localhost"]


def test_names_and_dates() -> None:
    certificate = x509.load_pem_x509_certificate(make_pair(NAMES, NOW)[0])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["relay.example", "xn--bcher-kva.example", "localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1", "2001:db8::1"]
    assert certificate.subject.rfc4514_string() == "CN=relay.example"


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    """A whole handshake in memory. Raises ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)


@pytest.mark.parametrize("name", ["relay.example", "bücher.example", "192.0.2.1", "2001:db8::1", "localhost"])
def test_a_strict_client_takes_it(tmp_path: Path, name: str) -> None:
    """Python 3.13 checks like this by default."""
    cert_file, key_file = write_pair(tmp_path, NAMES, NOW)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert_file, key_file)
    client = ssl.create_default_context(cafile=cert_file)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    handshake(client, server, name)


def test_the_key_is_the_owners(tmp_path: Path) -> None:
    cert_file, key_file = write_pair(tmp_path, ["a"], NOW)
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert b"PRIVATE" not in cert_file.read_bytes()
    assert (cert_file.parent, key_file.parent) == (tmp_path, tmp_path)


@pytest.mark.parametrize("there", ["tls-cert.pem", "tls-key.pem"])
def test_nothing_is_overwritten_and_no_half_is_left(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(FileExistsError):
        write_pair(tmp_path, ["a"], NOW)
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


@pytest.mark.parametrize("name", ["", "a b", "-a", "a..b", "a/b", "x" * 64, ".".join(["x" * 60] * 5), "a\nb", "*"])
def test_what_is_no_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadName):
        write_pair(tmp_path, ["good.example", name], NOW)
    assert list(tmp_path.iterdir()) == []


def test_a_long_name_is_shortened_where_it_has_to_be() -> None:
    name = ".".join(["x" * 60] * 3)
    certificate = x509.load_pem_x509_certificate(make_pair([name], NOW + timedelta(days=1))[0])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [name]
