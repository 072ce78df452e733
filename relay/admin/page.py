# SPDX-License-Identifier: MIT
"""The HTML of the admin page, and of a mail that the sandbox caught. Every value goes through escape()."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from relay.admin.live import Mail
from relay.admin.view import CHART_HEIGHT, CHART_MINUTES, MESSAGE_COLUMNS, PROBLEM_COLUMNS
from relay.stats import RESULTS

_HEAD = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/admin.css">
"""
_MAIL_COLUMNS = ("time", "from", "to", "subject")


def page(shown: Mapping[str, Any], words: str, result: str) -> str:
    """The one page. shown: what view() gives."""
    state = escape(shown["state"])
    return f"""\
{_HEAD}<title>graph-smtp-relay: {state}</title>
<noscript><meta http-equiv="refresh" content="15"></noscript>
<script src="/admin.js" defer></script>
</head>
<body>
<header>
<h1>graph-smtp-relay</h1>
<p id="state" class="{state}">{state}</p>
</header>
<main>
<ul id="troubles">{_each("li", shown["troubles"])}</ul>
<dl id="figures">{"".join(_figure(*one) for one in shown["figures"])}</dl>
<section>
<h2>Messages a minute</h2>
{_chart(shown["chart"])}
</section>
{_mails(shown["mails"])}<section>
<h2>Last messages</h2>
<form id="filter" role="search">
<input type="search" name="q" value="{escape(words)}" placeholder="address, client, reply, ID …" aria-label="search">
<select name="result" aria-label="result"><option value="">all</option>{_options(result)}</select>
<button>filter</button>
</form>
{_table("messages", MESSAGE_COLUMNS, shown["messages"], "result")}
</section>
<section>
<h2>Last problems</h2>
{_table("problems", PROBLEM_COLUMNS, shown["problems"], "event")}
</section>
</main>
<footer>Times are UTC. <a href="/metrics">metrics</a> <a href="/readyz">readiness</a></footer>
</body>
</html>
"""


def mail_page(mail: Mail) -> str:
    """One mail that the sandbox caught. Its HTML stands in a frame without scripts, forms and origin."""
    subject = escape(str(mail["subject"]))
    facts = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(mail[name]))}</dd>"
        for name in ("at", "from", "to", "cc", "bcc", "mailbox", "form")
        if mail[name]
    )
    attached = [f"{name} ({kind}, {octets} octets)" for name, kind, octets in _attachments(mail)]
    number = escape(str(mail["number"]))
    frame = f'<iframe sandbox src="/mails/{number}/html" title="the HTML body"></iframe>' if mail["html"] else ""
    return f"""\
{_HEAD}<title>{subject}</title>
</head>
<body>
<header>
<h1>{subject or "(no subject)"}</h1>
<p><a href="/">back</a> <a href="/mails/{number}/source">source</a></p>
</header>
<main class="mail">
<dl>{facts}</dl>
<ul>{_each("li", attached)}</ul>
{frame}<pre>{escape(str(mail["text"]))}</pre>
</main>
</body>
</html>
"""


def _attachments(mail: Mail) -> Sequence[tuple[str, str, int]]:
    found = mail["attachments"]
    return found if isinstance(found, list) else ()


def _each(tag: str, texts: Iterable[str]) -> str:
    return "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts)


def _figure(label: str, value: str, note: str) -> str:
    return f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd><dd>{escape(note)}</dd></div>"


def _options(chosen: str) -> str:
    return "".join(f"<option{' selected' if one == chosen else ''}>{one}</option>" for one in RESULTS)


def _chart(chart: Mapping[str, Any]) -> str:
    paths = "".join(f'<path class="{name}" d="{chart["paths"][name]}"/>' for name in RESULTS)
    legend = "".join(f'<li class="{name}">{name}</li>' for name in RESULTS)
    return (
        f'<svg id="chart" viewBox="0 0 {CHART_MINUTES} {CHART_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="messages a minute over the last three hours">{paths}</svg>'
        f'<p class="scale"><span id="from">{chart["from"]}</span><span>busiest minute: '
        f'<b id="peak">{chart["peak"]}</b></span><span id="to">{chart["to"]}</span></p><ul class="legend">{legend}</ul>'
    )


def _table(name: str, columns: Sequence[str], rows: Iterable[Sequence[str]], coloured_by: str) -> str:
    at = columns.index(coloured_by)
    body = "".join(f'<tr class="{_class(row[at])}">{_cells(columns, row)}</tr>' for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{_each("th", columns)}</tr></thead>'
        f'<tbody id="{name}">{body}</tbody></table></div>'
    )


def _cells(columns: Sequence[str], row: Sequence[str]) -> str:
    return "".join(f'<td data-name="{column}">{escape(cell)}</td>' for column, cell in zip(columns, row, strict=True))


def _class(outcome: str) -> str:
    """The result that a row tells of, for its colour."""
    return next((one for one in RESULTS if outcome.startswith(one)), "")


def _mails(rows: Sequence[Sequence[str]] | None) -> str:
    if rows is None:
        return ""
    body = "".join(
        f'<tr>{_cells(_MAIL_COLUMNS[:3], row[:3])}<td data-name="subject"><a href="/mails/{escape(row[4])}">'
        f"{escape(row[3]) or '(no subject)'}</a></td></tr>"
        for row in rows
    )
    return (
        f'<section><h2>Mails caught by the sandbox</h2><div class="wide"><table><thead><tr>'
        f'{_each("th", _MAIL_COLUMNS)}</tr></thead><tbody id="mails">{body}</tbody></table></div></section>\n'
    )
