# SPDX-License-Identifier: MIT
"""The libraries' wheels that go into the single file and the RPM: fetched by the lock file, for other machines too.

Knows pip and the wheel format; nothing of what is made from them.
"""

from __future__ import annotations

import email
import email.message
import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "packaging" / "requirements" / "runtime.txt"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
GLIBC = "2_28"  # RHEL 8, Debian 10 and newer

# Tests, and what only a compiler or a type checker reads.
_NOT_NEEDED = re.compile(
    r"(^|/)tests?/|\.(c|h|cpp|hpp|asm|obj|cmd|pyi|pyx|pxd)$|(^|/)(py\.typed|RECORD)$|\.data/headers/"
)


@dataclass(frozen=True)
class Target:
    """A Python on a machine."""

    python: str
    machine: str

    @property
    def tag(self) -> str:
        return f"cp{self.python.replace('.', '')}-{self.machine}"


@dataclass(frozen=True)
class Library:
    """A wheel and what it says of itself. licences: the texts, by file name."""

    wheel: Path
    metadata: email.message.Message
    licences: dict[str, str]

    @property
    def name(self) -> str:
        return re.sub(r"[-_.]+", "-", str(self.metadata["Name"])).lower()

    @property
    def version(self) -> str:
        return str(self.metadata["Version"])

    @property
    def licence(self) -> str:
        """As the library says it: an SPDX expression where it has one."""
        classifiers = self.metadata.get_all("Classifier") or []
        named = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: ")]
        stated = self.metadata["License-Expression"] or self.metadata["License"] or "; ".join(named)
        return str(stated).splitlines()[0]

    @property
    def needs(self) -> list[str]:
        """The names of the libraries that this one is made from."""
        lines = self.metadata.get_all("Requires-Dist") or []
        return [
            re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", line, maxsplit=1)[0]).lower()
            for line in lines
            if "extra ==" not in line
        ]


TARGETS = tuple(Target(python, machine) for python in PYTHONS for machine in MACHINES)


def fetch(target: Target) -> list[Path]:
    """The wheels for a target, kept below build/ for as long as the lock file is the same."""
    lock = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    kept = ROOT / "build" / "wheels" / lock / target.tag
    if not kept.is_dir():
        shutil.rmtree(part := kept.with_name(f"{target.tag}.part"), ignore_errors=True)
        command = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check"]
        command += ["--no-deps", "--require-hashes", "--requirement", str(LOCK), "--dest", str(part)]
        command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={target.python}"]
        command += [f"--platform=manylinux_{GLIBC}_{target.machine}", f"--platform=manylinux2014_{target.machine}"]
        subprocess.run(command, check=True)
        part.rename(kept)
    return sorted(kept.iterdir())


def fetch_all() -> None:
    """Fetch for every target, two at a time: pip spends most of it starting."""
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(fetch, TARGETS))


def contents(wheels: Sequence[Path]) -> dict[str, bytes]:
    """The files to install, by their place below a directory of sys.path."""
    files: dict[str, bytes] = {}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith("/") or _NOT_NEEDED.search(name):
                    continue
                assert ".data/" not in name, f"{wheel.name}: {name} does not lie beside the modules"  # noqa: S101
                files[name] = archive.read(name)
    return files


def program() -> dict[str, bytes]:
    """The relay's own files, in the same way."""
    package = ROOT / "relay"
    return {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def described(targets: Sequence[Target]) -> dict[str, list[Library]]:
    """All wheels for the targets, each once, by the library's name."""
    found: dict[str, dict[str, Library]] = {}
    for target in targets:
        for wheel in fetch(target):
            library = _described(wheel)
            found.setdefault(library.name, {})[wheel.name] = library
    return {name: [wheels[key] for key in sorted(wheels)] for name, wheels in sorted(found.items())}


def _described(wheel: Path) -> Library:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        licences = {
            name.rpartition("/")[2]: archive.read(name).decode("utf-8", "replace")
            for name in sorted(_licence_files(names))
        }
        return Library(wheel, email.message_from_bytes(archive.read(metadata)), licences)


def _licence_files(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        folder, _, file = name.rpartition("/")
        if ".dist-info" in folder and re.match(r"(licen[cs]e|copying|notice|authors)", file, re.IGNORECASE):
            yield name


def main() -> None:
    """MACHINE PYTHON DIRECTORY: lay a target's libraries out there, and print them as an RPM names them."""
    machine, python, directory = sys.argv[1:]
    target = Target(python, machine)
    for name, content in contents(fetch(target)).items():
        place = Path(directory) / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    found = described([target]).items()
    print(", ".join(f"bundled(python3dist({name})) = {library.version}" for name, (library, *_) in found))


if __name__ == "__main__":
    main()
