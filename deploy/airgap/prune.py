#!/usr/bin/env python3
"""Thin wheels to the GPU code of one compute capability: `prune.py WHEEL OUT_DIR X.Y`.

A CUDA library holds its kernels once for each kind of GPU, in ELF sections of "fatbins". What cannot run on the wanted one
is taken out, the rest stays as if it had been compiled for that target alone; file lengths and ELF layout do not change,
the zeros vanish in the wheel's compression. A pruned wheel's RECORD is written anew. Not tried on a GPU: pack without
it first.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import struct
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FATBIN, _SECTIONS = 0xBA55ED50, (".nv_fatbin", "__nv_relfatbin")
_PTX, _SASS = 1, 2
_HEADER, _ENTRY = 16, 64  # bytes that a fatbin's and an entry's header have at least


@dataclass(frozen=True, slots=True)
class Entry:
    """Code for one architecture: machine code (SASS) or portable assembly (PTX)."""

    kind: int
    arch: int
    start: int
    end: int


def capability(text: str) -> int:
    """Read 9.0 as 90; ValueError for anything else."""
    major, _, minor = text.partition(".")
    if not (major.isdigit() and minor.isdigit() and len(minor) == 1):
        raise ValueError(f"{text!r} is no compute capability such as 9.0")
    return 10 * int(major) + int(minor)


def sections(data: bytes | bytearray) -> Iterator[tuple[str, int, int]]:
    """Yield (name, offset, size) of a 64-bit ELF's sections; nothing for another file."""
    if data[:4] != b"\x7fELF" or data[4] != 2:
        return
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count, names = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, table + k * size) for k in range(count)]
    base = headers[names][4] if headers else 0
    for header in headers:
        end = data.index(b"\0", base + header[0])
        yield bytes(data[base + header[0] : end]).decode(), header[4], header[5]


def fatbins(data: bytes | bytearray) -> Iterator[tuple[int, int, int, list[Entry]]]:
    """Yield (offset, header size, body size, entries) of each fatbin; ValueError for one that cannot be read."""
    for name, offset, size in sections(data):
        at, end = (offset, offset + size) if name in _SECTIONS else (0, 0)
        while at + _HEADER <= end:
            magic, _, header, body = struct.unpack_from("<IHHQ", data, at)
            if magic != _FATBIN:
                at += 8
                continue
            yield at, header, body, list(_entries(data, at + header, at + header + body))
            at = (at + header + body + 7) & ~7


def _entries(data: bytes | bytearray, at: int, end: int) -> Iterator[Entry]:
    while at + _ENTRY <= end:
        kind, _, header, size = struct.unpack_from("<HHIQ", data, at)
        (arch,) = struct.unpack_from("<I", data, at + 28)
        stop = at + header + size
        if header < 32 or stop > end:
            raise ValueError(f"an entry at {at:#x} does not fit its fatbin")
        yield Entry(kind, arch, at, stop)
        at = stop


def needed(entries: list[Entry], want: int) -> list[Entry]:
    """Choose what can run on `want`: its own machine code, else the nearest older of its family with the newest PTX.

    Machine code runs on later GPUs of its major version, unless made for one alone: so the PTX, which runs on any later
    one, stays too.
    """
    exact = [e for e in entries if e.kind == _SASS and e.arch == want]
    if exact:
        return exact
    older = [e for e in entries if e.kind == _SASS and e.arch < want and e.arch // 10 == want // 10]
    portable = [e for e in entries if e.kind == _PTX and e.arch <= want]
    nearest, newest = max((e.arch for e in older), default=0), max((e.arch for e in portable), default=0)
    return [e for e in entries if (e in older and e.arch == nearest) or (e in portable and e.arch == newest)]


def prune(data: bytearray, want: int) -> int:
    """Take out in place what cannot run on `want`; return the bytes that became zeros.

    A fatbin of which nothing can run keeps its smallest entry as it is: it was unusable there before, and stays well-formed.
    """
    removed = 0
    for at, header, body, entries in list(fatbins(data)):
        if not entries:
            continue
        kept = needed(entries, want) or [min(entries, key=lambda e: e.end - e.start)]
        code = b"".join(bytes(data[e.start : e.end]) for e in kept)
        data[at + header : at + header + body] = code + bytes(body - len(code))
        struct.pack_into("<Q", data, at + 8, len(code))
        removed += body - len(code)
    return removed


def wheel(source: Path, folder: Path, want: int) -> Path:
    """Prune a wheel's libraries into `folder`; return the wheel to use, which is the source where nothing was to prune."""
    with zipfile.ZipFile(source) as old:
        thinned = {}
        for item in old.infolist():
            if ".so" not in item.filename:
                continue
            data = bytearray(old.read(item))
            if prune(data, want):
                thinned[item.filename] = bytes(data)
        if not thinned:
            return source
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / source.name
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
            for item in old.infolist():
                data_of = thinned.get(item.filename) or old.read(item)
                if item.filename.endswith(".dist-info/RECORD"):
                    data_of = record(data_of, thinned)
                item.compress_type = zipfile.ZIP_DEFLATED
                new.writestr(item, data_of)
    return target


def record(old: bytes, thinned: dict[str, bytes]) -> bytes:
    """Write the wheel's RECORD with the new hashes and sizes."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    for name, digest, size in csv.reader(io.StringIO(old.decode())):
        if name in thinned:
            hashed = base64.urlsafe_b64encode(hashlib.sha256(thinned[name]).digest()).rstrip(b"=").decode()
            rows.writerow((name, f"sha256={hashed}", len(thinned[name])))
        else:
            rows.writerow((name, digest, size))
    return text.getvalue().encode()


if __name__ == "__main__":
    made = wheel(Path(sys.argv[1]), Path(sys.argv[2]), capability(sys.argv[3]))
    print(f"{made}: {made.stat().st_size / 1e6:.1f} MB, was {Path(sys.argv[1]).stat().st_size / 1e6:.1f} MB")
