# SPDX-License-Identifier: MIT
"""Writes what the bundles are made of: a CycloneDX bill of materials, and the licences of everything in them."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import uuid
from collections.abc import Sequence
from typing import Any

import libraries
from libraries import ROOT, TARGETS, Library, Target

NAME = "graph-smtp-relay"
# What the wheels hold in compiled form and do not declare as a library of their own.
_COMPILED_IN = {
    "cryptography": "OpenSSL (Apache-2.0), and the Rust crates in its own bill of materials (sboms/ in its .dist-info)",
    "gevent": "libev (BSD-2-Clause), c-ares (MIT), libuv (MIT)",
    "pyyaml": "LibYAML (MIT)",
    "cffi": "libffi (MIT)",
}


def version() -> str:
    """The program's, from the one place where it is written."""
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "relay/__init__.py").read_text("utf-8"), re.M)
    assert found is not None  # noqa: S101
    return found[1]


def materials(targets: Sequence[Target]) -> dict[str, Any]:
    """The bill of materials, as CycloneDX 1.6 JSON. The same input gives the same bill."""
    found = libraries.described(targets)
    ours = {
        "type": "application",
        "bom-ref": NAME,
        "name": NAME,
        "version": version(),
        "licenses": [{"license": {"id": "MIT"}}],
    }
    components = [_component(wheels) for wheels in found.values()]
    needed = {need for wheels in found.values() for need in wheels[0].needs}
    edges = [
        {"ref": NAME, "dependsOn": [_ref(w) for name, w in found.items() if name in _direct() or name not in needed]}
    ]
    for wheels in found.values():
        below = sorted(_ref(found[need]) for need in set(wheels[0].needs) if need in found)
        edges.append({"ref": _ref(wheels), "dependsOn": below})
    made = datetime.datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH") or 315532800), datetime.UTC)
    digest = hashlib.sha256(json.dumps([ours, components]).encode()).hexdigest()
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {"timestamp": made.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": ours},
        "components": components,
        "dependencies": edges,
    }


def _direct() -> set[str]:
    """The libraries that setup.py names."""
    text = (ROOT / "setup.py").read_text("utf-8")
    listed = text[text.index("install_requires") : text.index("extras_require")]
    return {re.sub(r"[-_.]+", "-", name).lower() for name in re.findall(r'"([\w.-]+)[><=]', listed)}


def _ref(wheels: Sequence[Library]) -> str:
    return f"pkg:pypi/{wheels[0].name}@{wheels[0].version}"


def _component(wheels: Sequence[Library]) -> dict[str, Any]:
    first = wheels[0]
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": _ref(wheels),
        "name": first.name,
        "version": first.version,
        "purl": _ref(wheels),
        "licenses": [{"license": {"name": first.licence}}],
        "externalReferences": [
            {
                "type": "distribution",
                "url": library.wheel.name,
                "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(library.wheel.read_bytes()).hexdigest()}],
            }
            for library in wheels
        ],
    }
    if first.name in _COMPILED_IN:
        component["description"] = f"holds in compiled form: {_COMPILED_IN[first.name]}"
    return component


def licences(targets: Sequence[Target]) -> str:
    """The licence of each library, with its text."""
    parts = [f"The libraries that {NAME} {version()} is bundled with, and their licences.\n"]
    for name, wheels in libraries.described(targets).items():
        first = wheels[0]
        parts.append(f"{'=' * 100}\n{name} {first.version}: {first.licence}\n")
        if name in _COMPILED_IN:
            parts.append(f"It holds in compiled form: {_COMPILED_IN[name]}\n")
        parts += [f"--- {file}\n\n{text.strip()}\n" for file, text in first.licences.items()]
    return "\n".join(parts)


def main() -> None:
    """Into the directory dist."""
    dist = ROOT / "dist"
    dist.mkdir(exist_ok=True)
    (dist / f"{NAME}-{version()}.cdx.json").write_text(
        json.dumps(materials(TARGETS), indent=1) + "\n", encoding="utf-8"
    )
    (dist / "THIRD-PARTY-LICENSES.txt").write_text(licences(TARGETS), encoding="utf-8")


if __name__ == "__main__":
    main()
