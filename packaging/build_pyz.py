# SPDX-License-Identifier: MIT
"""Writes dist/graph-smtp-relay.pyz: the launcher, the program, and the libraries for each Python and machine.

A file that is the same for all of them is held once. The same input gives the same octets.
"""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import bill
import libraries
from libraries import ROOT, TARGETS, Target

OUTPUT = ROOT / "dist" / "graph-smtp-relay.pyz"
_LAUNCHER = ROOT / "packaging" / "pyz"
_WHEN = (1980, 1, 1, 0, 0, 0)


def build(version: str) -> bytes:
    """The single file."""
    libraries.fetch_all()
    by_target = {target: libraries.contents(libraries.fetch(target)) for target in TARGETS}
    program = {f"program/{name}": content for name, content in libraries.program().items()}
    placed = {target: {**program, **grouped(by_target, target)} for target in TARGETS}
    members: dict[str, bytes] = {path.name: path.read_bytes() for path in sorted(_LAUNCHER.glob("*.py"))}
    members["LICENSE"] = (ROOT / "LICENSE").read_bytes()
    members["THIRD-PARTY-LICENSES.txt"] = bill.licences(TARGETS).encode()
    members["lists/pythons"] = " ".join(libraries.PYTHONS).encode()
    for target, files in placed.items():
        members.update(files)
        members[f"lists/{target.tag}"] = listing(version, target, files).encode()
    return archive(members)


def grouped(by_target: Mapping[Target, Mapping[str, bytes]], target: Target) -> dict[str, bytes]:
    """A target's files, each below the name of what it holds for: `any`, the machine, or the target."""
    files = {}
    for name, content in by_target[target].items():
        same_for = {other for other, theirs in by_target.items() if theirs.get(name) == content}
        if len(same_for) == len(by_target):
            group = "any"
        elif same_for >= {other for other in by_target if other.machine == target.machine}:
            group = target.machine
        else:
            group = target.tag
        files[f"{group}/{name}"] = content
    return files


def listing(version: str, target: Target, files: Mapping[str, bytes]) -> str:
    """The name of the directory to unpack to, then a line a file. The name tells two builds apart."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    lines = [f"{len(files[name])} {name}" for name in sorted(files)]
    return "\n".join([f"{version}-{digest.hexdigest()[:12]}+{target.tag}", *lines])


def archive(members: Mapping[str, bytes]) -> bytes:
    """A zip that starts as a script does."""
    stream = io.BytesIO(b"#!/usr/bin/env python3\n")
    stream.seek(0, io.SEEK_END)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as written:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, _WHEN)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3  # Unix
            written.writestr(entry, members[name], zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def main() -> None:
    """Into dist/, or into the file that is named."""
    output = Path(sys.argv[1]) if sys.argv[1:] else OUTPUT
    output.parent.mkdir(exist_ok=True)
    output.write_bytes(build(bill.version()))
    output.chmod(0o755)
    print(f"{output}: {output.stat().st_size} octets")


if __name__ == "__main__":
    main()
