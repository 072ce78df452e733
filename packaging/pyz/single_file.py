# SPDX-License-Identifier: MIT
"""The launcher inside of the single file: unpacks program and libraries into a cache, once, and starts from there.

Compiled libraries cannot be loaded from inside an archive. The archive holds a list for each Python and machine that
it has libraries for; a line is the size of a file and its name in the archive, whose first folder says what it is for.

The file is read with zipimport and not zipfile, which loads threading: gevent has to patch that first.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

NAME = "graph-smtp-relay"
CACHE = "GRAPH_SMTP_RELAY_CACHE"
OLDEST_GLIBC = (2, 28)  # of the wheels: manylinux_2_28

_ARCHIVE: str = __loader__.archive  # type: ignore[name-defined]  # zipimport's
_read = __loader__.get_data  # type: ignore[name-defined]


class Unusable(Exception):
    """Why a directory cannot be the cache. The text is for the terminal."""


def main() -> NoReturn:
    """Start the relay; the program's exit code."""
    program = Path(_ARCHIVE).resolve()
    listed = _list_for(_this_tag())
    if listed is not None:
        place = _unpacked(*listed)
        sys.path[:] = [str(place), *(entry for entry in sys.path if entry != _ARCHIVE)]
    elif find_spec("gevent") is None:
        _try_another_python()
    else:  # with the system's own libraries, and the program from the archive
        sys.path.insert(0, os.path.join(_ARCHIVE, "program"))
    from relay.bootstrap import run

    sys.exit(run(program))


def _this_tag() -> str:
    """What libraries this interpreter needs, as in cp311-x86_64; a name that no list has where there are none."""
    try:
        libc, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (OSError, ValueError):  # another C library: musl
        libc, version = "", ""
    if libc != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < OLDEST_GLIBC:
        return "other"
    return f"cp{sys.version_info[0]}{sys.version_info[1]}{sys.abiflags}-{os.uname().machine}"


def _list_for(tag: str) -> tuple[str, dict[str, int]] | None:
    """The name of the directory to unpack to, and the files with their sizes."""
    try:
        key, *lines = _read(f"lists/{tag}").decode("utf-8").splitlines()
    except OSError:
        return None
    entries = (line.split(" ", 1) for line in lines)
    return key, {name: int(size) for size, name in entries}


def _try_another_python() -> NoReturn:
    supported = _read("lists/pythons").decode("utf-8").split()
    for version in reversed(supported):
        python = shutil.which(f"python{version}")
        if python and sys.version_info[:2] != tuple(map(int, version.split("."))):
            os.execv(python, [python, *sys.argv])  # noqa: S606
    sys.exit(
        f"{NAME}: this file brings libraries for Python {supported[0]} to {supported[-1]}, x86_64 and aarch64, glibc "
        f"{OLDEST_GLIBC[0]}.{OLDEST_GLIBC[1]} or newer; this is Python {sys.version_info[0]}.{sys.version_info[1]} on "
        f"{os.uname().machine}. Start it with another Python, or install the libraries, for instance: apt install "
        "python3-gevent python3-msal python3-requests python3-yaml python3-pythonjsonlogger python3-prometheus-client"
    )


def _unpacked(key: str, files: dict[str, int]) -> Path:
    """The directory with the files, in the first cache that will do. Ends the program when none does."""
    faults = []
    for cache in _caches():
        try:
            return _unpacked_in(cache, key, files)
        except OSError as fault:
            faults.append(f"{fault.filename or cache}: {fault.strerror}")
        except Unusable as fault:
            faults.append(str(fault))
    sys.exit(
        f"{NAME}: nowhere to unpack the libraries to; set ${CACHE} to a directory that this user can write to "
        f"({'; '.join(faults)})"
    )


def _caches() -> Iterator[Path]:
    named = os.environ.get(CACHE)
    if named:
        yield Path(named)
        return
    systemd = os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]  # CacheDirectory= of a unit: `service install`
    if systemd:
        yield Path(systemd)
    for parent in (os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache")):
        if os.path.isabs(parent) and parent != "/.cache":  # init's HOME is /
            yield Path(parent) / NAME
    yield Path(os.environ.get("TMPDIR") or "/tmp") / f"{NAME}-{os.geteuid()}"  # noqa: S108 - 0700, the owner is looked at


def _unpacked_in(cache: Path, key: str, files: dict[str, int]) -> Path:
    """Raises OSError and Unusable."""
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    cache = cache.resolve()
    for directory in (cache, *cache.parents):
        _trust(directory, is_cache=directory == cache)
    if os.statvfs(cache).f_flag & os.ST_NOEXEC:
        raise Unusable(f"{cache}: mounted noexec")
    place = cache / key
    if not (place.is_dir() and _hold(place) and _is_whole(place, files)):
        with _locked(cache):  # another process may be at it, or have done it meanwhile
            if not (place.is_dir() and _is_whole(place, files)):
                _remove_old(cache, key)
                _unpack(place, files)
            _hold(place)
    _trust(place, is_cache=True)
    return place


def _trust(directory: Path, *, is_cache: bool) -> None:
    """What lies in there will be run: so nobody but root and this user may be able to put it there.

    Raises OSError and Unusable.
    """
    status = directory.lstat()
    if status.st_uid not in (0, os.geteuid()):
        raise Unusable(f"{directory}: belongs to another user")
    others = status.st_mode & (stat.S_IWOTH | stat.S_IWGRP if is_cache else stat.S_IWOTH)
    if others and not status.st_mode & stat.S_ISVTX:
        raise Unusable(f"{directory}: others can write to it")


def _hold(place: Path) -> bool:
    """Keep it from being removed while this process lives: by a newer version, and by systemd-tmpfiles (tmpfiles.d(5)).

    The descriptor stays open to the end.
    """
    fcntl.flock(os.open(place, os.O_RDONLY), fcntl.LOCK_SH)
    return True


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    descriptor = os.open(cache, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_whole(place: Path, files: dict[str, int]) -> bool:
    """False behind a power failure, or when something has tidied up /tmp."""
    try:
        return all(os.stat(f"{place}/{_inside(name)}").st_size == size for name, size in files.items())
    except FileNotFoundError:
        return False


def _inside(name: str) -> str:
    return name.partition("/")[2]


def _unpack(place: Path, files: dict[str, int]) -> None:
    made = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    before = os.umask(0o022)  # so that root can unpack for everybody, and nobody else can write
    try:
        made.chmod(0o755)
        for directory in sorted({os.path.dirname(_inside(name)) for name in files}):
            (made / directory).mkdir(parents=True, exist_ok=True)
        for name in files:
            with open(f"{made}/{_inside(name)}", "wb") as file:
                file.write(_read(name))
        made.rename(place)
    except BaseException:  # raised on; a half would keep a full disk full
        shutil.rmtree(made, ignore_errors=True)
        raise
    finally:
        os.umask(before)


def _remove_old(cache: Path, key: str) -> None:
    """What an older version has unpacked for this kind of Python, what is broken, and what was broken off."""
    kind = key.partition("+")[2]
    for old in cache.iterdir():
        if old.name.partition("+")[2].partition(".")[0] != kind:
            continue
        descriptor = os.open(old, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old)
        except BlockingIOError:  # in use
            if old.name == key:
                old.rename(old.with_name(f".{key}.{os.getpid()}"))
        finally:
            os.close(descriptor)
