# SPDX-License-Identifier: MIT
"""One string of the configuration → its value. Knows the grammar of each kind, and must not know YAML.

A string that does not fit raises BadValue with a sentence that goes behind "KEY: ". It never repeats the string:
the administrator may have put a secret into the wrong line. (The words of a choice and the block of a network
are our own spelling of what was recognised.)
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from relay.clientcert import BadCertificate, read_client_certificate
from relay.config import OLD_TLS_CIPHERS, Key, Kind, ListenAddress, Network, Rate
from relay.credentials import check_password_hash
from relay.loopback import is_loopback
from relay.vault import PREFIX

_HOST = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]{2,45}\]"
_URL = re.compile(rf"(https?)://({_HOST})(?::([0-9]{{1,5}}))?/?", re.IGNORECASE)
_PROXY = re.compile(rf"https?://(?:[^\s/@]+@)?({_HOST}):([0-9]{{1,5}})/?", re.IGNORECASE)
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45}(?:%[\w.-]+)?)\]|([^\[\]:]*)):([0-9]{1,5})", re.ASCII)
_INTEGER = re.compile(r"[-+]?(?:0x[0-9a-f]{1,16}|0o[0-7]{1,20}|0b[01]{1,64}|[0-9]{1,20})", re.IGNORECASE)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,20}|[0-9]{1,20}(?:\.[0-9]{0,20})?)(?:e[-+]?[0-9]{1,2})?", re.IGNORECASE)
_LOCAL_PART = r"[^\s@<>()\[\],;:\"\\]+"
_DOMAIN = r"[^\s@<>()\[\],;:\"\\/]+"
_MAPPED_PREFIX = 96  # RFC 4291 §2.5.5.2
_UNFIT = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # surrogates: octets of the environment that are not UTF-8

_BOOLEANS = {
    "true": True,
    "yes": True,
    "on": True,
    "y": True,
    "false": False,
    "no": False,
    "off": False,
    "n": False,
}
_SPELLINGS = {"warning": "warn"}  # azureSMTPwithOAuth takes both


_PERIODS_S = {"s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600}
_ENCRYPTED = "ENCRYPTED"  # a reason of our own, beside OpenSSL's


class BadValue(Exception):
    """What is wrong with a value, in words that never hold the value."""


def usable(text: str, *, is_secret: bool = False) -> str:
    """The string itself, where it can be one. What the seed or we have encrypted is no string to use.

    is_secret: a tab may be a part of a password; anywhere else it is a Windows path in double quotes, or a slip.
    """
    if text.startswith("__SYSTEMENCRYPTED__"):
        raise BadValue("can only be read on the Windows machine that made it; enter the value again")
    if _UNFIT.search(text.replace("\t", " ") if is_secret else text):
        raise BadValue("holds a line end or another control character")
    return text


def boolean(text: str) -> bool:
    """YAML 1.1's words for it, as yaml.v3 takes them, in any case."""
    if text.lower() not in _BOOLEANS:
        raise BadValue("must be true or false")
    return _BOOLEANS[text.lower()]


def integer(text: str, key: Key) -> int | None:
    """An integer in the key's range; None where the number written means the default."""
    of_unit = f" of {key.unit}" if key.unit else ""
    number = _number(text.replace("_", ""))
    if number is None:
        raise BadValue(f"must be a whole number{of_unit}" + (" or auto" if key.kind == "processes" else ""))
    if (number == 0 and key.zero_is_default) or (number < 0 and key.negative_is_default):
        return None
    if key.lowest is not None and key.highest is not None and not key.lowest <= number <= key.highest:
        raise BadValue(f"must be between {key.lowest} and {key.highest} {key.unit}".rstrip())
    return number


def _number(text: str) -> int | None:
    if _INTEGER.fullmatch(text):
        if re.fullmatch(r"[-+]?0[0-7]+", text):  # octal in YAML 1.1 and in the seed
            return int(text, 8)
        if not re.fullmatch(r"[-+]?0[0-9]+", text):
            return int(text, 0)
    if _FLOAT.fullmatch(text) and float(text).is_integer():
        return int(float(text))
    return None


def choice(text: str, key: Key) -> str:
    """One of the key's choices, in the spelling of the table."""
    wanted = _SPELLINGS.get(text.lower(), text.lower())
    found = next((one for one in key.choices if one.lower() == wanted), None)
    if found is None:
        raise BadValue(f"must be one of {', '.join(key.choices)}")
    return found


def address(text: str) -> ListenAddress:
    """HOST:PORT, [IPv6]:PORT or :PORT."""
    parts = _ADDRESS.fullmatch(text)
    if parts is None or not _is_host(f"[{parts[1]}]" if parts[1] else parts[2] or "localhost"):
        raise BadValue('must be HOST:PORT, such as 127.0.0.1:2526, or "[::1]:2526" with brackets and quotes')
    if int(parts[3]) > 65535:
        raise BadValue("the port must be between 0 and 65535")
    return ListenAddress(parts[1] or parts[2], int(parts[3]))


def network(text: str) -> Network:
    """A CIDR block or a single address. An IPv4-mapped one is that of IPv4, as clients are looked at."""
    try:
        block = ipaddress.ip_network(text, strict=False)
        first = ipaddress.ip_address(text.partition("/")[0])
    except ValueError:
        raise BadValue("must be a network such as 10.0.5.0/24, or a single address") from None
    if first != block.network_address:
        raise BadValue(f"has bits set behind the prefix; the network is {block}")
    mapped = first.ipv4_mapped if isinstance(first, ipaddress.IPv6Address) else None
    if mapped is not None and block.prefixlen >= _MAPPED_PREFIX:
        return ipaddress.IPv4Network((mapped, block.prefixlen - _MAPPED_PREFIX))
    return block


def _is_host(host: str) -> bool:
    """Whether it is a host name, an IPv4 address or an IPv6 address in brackets."""
    try:
        if host.startswith("["):
            return ipaddress.IPv6Address(host[1:-1]).version == 6
        if re.fullmatch(r"[0-9.]+", host):
            return ipaddress.IPv4Address(host).version == 4
    except ValueError:
        return False
    return re.fullmatch(_HOST, host) is not None and ".." not in host


def url(text: str) -> str:
    """https://HOST[:PORT], in lower case and without a slash at the end."""
    found = _url(text)
    if not found.startswith("https:"):
        raise BadValue("must start with https://")
    return found


def graph_url(text: str) -> str:
    """The same; http:// too where nothing leaves the machine, since stand-ins for Graph run without TLS."""
    found = _url(text)
    if not found.startswith("https:") and not is_loopback(_host_of(found)):
        raise BadValue("must start with https:// (http:// is for loopback addresses only)")
    return found


def _url(text: str) -> str:
    parts = _URL.fullmatch(text)
    if parts is None or not _is_host(parts[2]):
        raise BadValue("must be https://HOST or https://HOST:PORT, without user, path or query")
    if parts[3] and not 1 <= int(parts[3]) <= 65535:
        raise BadValue("the port must be between 1 and 65535")
    port = f":{int(parts[3])}" if parts[3] else ""
    return f"{parts[1]}://{parts[2]}{port}".lower()


def _host_of(checked_url: str) -> str:
    parts = _URL.fullmatch(checked_url)
    return parts[2] if parts else ""


def https_proxy(text: str) -> str:
    """http(s)://[USER:PASSWORD@]HOST:PORT, as written."""
    parts = _PROXY.fullmatch(text)
    if parts is None or not _is_host(parts[1]) or not 1 <= int(parts[2]) <= 65535:
        raise BadValue("must be http://HOST:PORT or http://USER:PASSWORD@HOST:PORT (percent-encode @ and /)")
    return text


def tells(path: str, text: str) -> bool:
    """Whether a secret key's text gives anything away: a proxy's address does not, unless it holds a password."""
    return bool(text) and (path != "https_proxy" or "@" in text or text.startswith(PREFIX))


def readable(path: str) -> str:
    """The path of a file that can be opened."""
    try:
        with Path(path).open("rb"):
            return path
    except OSError as error:
        reason = error.strerror
    raise BadValue(f"the file cannot be read: {reason}")


def ca_bundle(path: str) -> str:
    """The path of a PEM file with at least one certificate."""
    import ssl  # here and not above: ssl must not be loaded before gevent's patch

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=readable(path))
        found = context.cert_store_stats()["x509"]
    except ssl.SSLError:
        found = 0
    if not found:
        raise BadValue("the file holds no certificate in PEM form, or a damaged one")
    return path


def check_key_pair(cert_file: str, key_file: str, *, for_old_tls: bool) -> None:
    """Raises BadValue unless the two PEM files are a certificate chain and its private key, without a pass phrase.

    for_old_tls: below TLS 1.2, which OpenSSL speaks at a security level that takes small keys and SHA-1 as well.
    """
    reason = _why_no_pair(cert_file, key_file, for_old_tls)
    if "MISMATCH" in reason:
        raise BadValue("is not the key of tls.cert_file")
    if reason == _ENCRYPTED:
        raise BadValue("is protected by a pass phrase; store it without one, readable for the service alone")
    if "TOO_SMALL" in reason or "TOO_WEAK" in reason:
        raise BadValue(
            "or tls.cert_file is too weak for OpenSSL; make them anew, such as with graph-smtp-relay tls-cert"
        )
    if reason:
        raise BadValue("tls.cert_file and tls.key_file are not a certificate chain and its private key in PEM form")


def check_client_certificate(path: str, pass_phrase: str) -> None:
    """Raises BadValue unless the PEM file holds an RSA key and its certificate, and the pass phrase opens it."""
    try:
        read_client_certificate(Path(path).read_bytes(), pass_phrase)
        return
    except (OSError, BadCertificate) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
    raise BadValue(f"cannot be used: {reason}")


def _why_no_pair(cert_file: str, key_file: str, for_old_tls: bool) -> str:
    """OpenSSL's word for what is wrong, or empty."""
    import ssl  # as above

    asked: list[bool] = []

    def no_pass_phrase() -> str:  # without it, one would be asked for on the terminal
        asked.append(True)
        return ""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if for_old_tls:
        context.set_ciphers(OLD_TLS_CIPHERS)
    try:
        context.load_cert_chain(cert_file, key_file, password=no_pass_phrase)
    except ssl.SSLError as error:
        return _ENCRYPTED if asked else error.reason or "UNKNOWN"  # of a PKCS #8 file OpenSSL says no word
    except (OSError, ValueError):
        return "UNKNOWN"
    return ""


def client_id(text: str) -> str:
    """An application ID."""
    if re.search(r"\s", text):
        raise BadValue("must not hold spaces")
    return text


def tenant_id(text: str) -> str:
    """A tenant's ID or domain: it becomes a part of Entra ID's URLs."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        raise BadValue("must be a tenant ID or a domain of the tenant, without spaces or slashes")
    return text


def hostname(text: str) -> str:
    """A name for the banner (RFC 5321 §4.1.2, Domain)."""
    if text.startswith("[") or not _is_host(text):
        raise BadValue("must be a host name")
    return text


def mailbox(text: str) -> str:
    """local-part@domain."""
    if not re.fullmatch(rf"{_LOCAL_PART}@{_DOMAIN}\.{_DOMAIN}", text):
        raise BadValue("must be an address such as scanner@example.com")
    return text


def address_pattern(text: str) -> str:
    """local-part@domain, with a * for any text in either. Anything else would never match, and say nothing of it."""
    pattern = "*@*" if text == "*" else text
    if re.fullmatch(rf"{_LOCAL_PART}@{_DOMAIN}", pattern):
        return pattern
    raise BadValue("must be an address, or *@example.com for a whole domain")


def rate(text: str) -> Rate:
    """30/min and the like."""
    parts = re.fullmatch(r"([0-9]{1,6}) ?/ ?([a-z]+)", text.lower(), re.ASCII)
    if parts is None or parts[2] not in _PERIODS_S or not int(parts[1]):
        raise BadValue("must be a number of messages for a second, minute or hour, such as 30/min")
    return Rate(int(parts[1]), _PERIODS_S[parts[2]])


def date(text: str) -> str:
    """YYYY-MM-DD."""
    try:
        if datetime.date.fromisoformat(text).isoformat() == text:  # not 20270131, which newer ones take too
            return text
    except ValueError:
        pass  # whose own text holds the value
    raise BadValue("must be a date such as 2027-01-31")


def password_hash(text: str) -> str:
    """What hash-password prints."""
    try:
        check_password_hash(text)
    except ValueError:
        raise BadValue("must be made by graph-smtp-relay hash-password") from None
    return text


Parser = Callable[[str], Any]
_OF_KIND: dict[Kind, Parser] = {
    "address": address,
    "addresses": address,
    "network": network,
    "networks": network,
    "url": url,
    "path": readable,
    "mailbox": mailbox,
    "date": date,
    "rate": rate,
}
_OF_KEY: dict[str, Parser] = {
    "oauth2_config.client_id": client_id,
    "oauth2_config.tenant_id": tenant_id,
    "hostname": hostname,
    "graph_url": graph_url,
    "https_proxy": https_proxy,
    "ca_bundle": ca_bundle,
    "allowed_from": address_pattern,
    "allowed_recipients": address_pattern,
    "password_hash": password_hash,
    "admin_password_hash": password_hash,
}


def parser_of(key: Key) -> Parser:
    """What turns a string into a value (of a list: an element) of this key."""
    return _OF_KEY.get(key.path) or _OF_KIND.get(key.kind) or str
