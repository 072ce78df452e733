# SPDX-License-Identifier: MIT
"""Writes docs/clients.md from what a run of tests/e2e/test_matrix.py found.

GSR_MATRIX=matrix.json python -m pytest tests/e2e/test_matrix.py
python packaging/make_clients_doc.py matrix.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECURITIES = ("plain", "STARTTLS", "implicit TLS")
MECHANISMS = ("PLAIN", "LOGIN", "no AUTH")
CONTENTS = {"8-bit": "8", "SMTPUTF8": "U", "5 MB": "5"}

HEAD = """# Clients

<!-- Written by packaging/make_clients_doc.py from a test run; do not edit. -->

What real clients were seen to do with the relay. Each cell stands for messages that were sent and arrived at the
sandbox exactly as they were: **8** a text in 8-bit UTF-8 (8BITMIME), **U** to an address with letters beyond ASCII
(SMTPUTF8), **5** a message of 5 MB. A dash is something that the client cannot do; why stands below. All clients
checked the certificate, but for swaks, which does not by default.

"""
TAIL = """
Exim, OpenSMTPD and Sendmail are not here: Debian installs one mail transfer agent at a time, and the one in the tests
is Postfix.

## Hints

| client | for the relay |
| --- | --- |
| Python | `smtplib.SMTP(host, 2526)`, then `starttls()` where a certificate is set, then `login()` |
| swaks | `--tls` for STARTTLS, `--tls-on-connect` for implicit TLS |
| curl | `smtp://` with `--ssl-reqd`, or `smtps://`; `--login-options AUTH=PLAIN` picks the mechanism |
| msmtp | `tls on` with `tls_starttls on` or `off`; `tls_trust_file` for a self-signed certificate |
| s-nail | `smtp-use-starttls`, or `smtps://` in `mta`; `tls-ca-file` |
| nodemailer | `requireTLS: true`, or `secure: true`; `tls: {ca}` |
| PHPMailer | `SMTPSecure` `tls` or `ssl`; without TLS also `SMTPAutoTLS = false` |
| Perl | `starttls(SSL_ca_file => …)`, or `SSL => 1` in `new` |
| Ruby | `enable_starttls(context)` or `enable_tls(context)` |
| Postfix | `relayhost`, `smtp_tls_security_level`, and `smtp_tls_wrappermode = yes` for implicit TLS |
"""


def main() -> None:
    found = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    versions = found.pop("versions")
    lines = ["| client | " + " | ".join(f"{security}, {mechanism}" for security, mechanism in columns()) + " |"]
    lines.append("| --- " * (1 + len(columns())) + "|")
    reasons: dict[str, set[str]] = {}
    for client, cells in found.items():
        shown = [" ".join(_mark(client, cells, column, reasons) for column in _ids(*pair)) for pair in columns()]
        lines.append(f"| {client} | " + " | ".join(shown) + " |")
    notes = [f"- {client}: {'; '.join(sorted(why))}." for client, why in reasons.items()]
    told = [f"- {client}: {version.partition(' (')[0]}" for client, version in versions.items()]
    text = HEAD + "\n".join(lines) + "\n\n" + "\n".join(notes) + "\n\nVersions:\n\n" + "\n".join(told) + "\n" + TAIL
    (ROOT / "docs" / "clients.md").write_text(text, encoding="utf-8")


def columns() -> list[tuple[str, str]]:
    return [(security, mechanism) for security in SECURITIES for mechanism in MECHANISMS]


def _ids(security: str, mechanism: str) -> list[str]:
    return [f"{security}, {mechanism}, {content}" for content in CONTENTS]


def _mark(client: str, cells: dict[str, str], cell: str, reasons: dict[str, set[str]]) -> str:
    outcome = cells.get(cell, "not tried")
    if outcome == "works":
        return CONTENTS[cell.rpartition(", ")[2]]
    kind, _, why = outcome.partition(": ")
    reasons.setdefault(client, set()).add(why or f"{cell}: {kind}")
    return "–"  # noqa: RUF001 - as printed


if __name__ == "__main__":
    main()
