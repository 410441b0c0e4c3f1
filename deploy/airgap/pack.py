#!/usr/bin/env python3
"""Pack the wheels of locks into pieces for a machine without network. Run it where there is one, in the project's folder.

    pack.py OUT --lock requirements/house-cuda.txt --lock requirements/engine-cuda.txt --python 3.12
    pack.py OUT --lock requirements/engine-cuda.txt --python 3.12 --prune-for 9.0 --piece-mib 500

Which index is asked is pip's own setting (pip.conf, PIP_INDEX_URL, PIP_FIND_LINKS). OUT gets the pieces, MANIFEST.json with
every checksum, and assemble.py, which the other machine runs. Exit 0 done, 1 a download failed, 2 bad input.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

HERE = Path(__file__).resolve().parent
MANIFEST, PIECE = "MANIFEST.json", "wheels.tar.{number:03d}"
VERSION = 1
# What `make setup` itself needs, besides the locks: the installer, and what builds the editable project.
TOOLS = ("uv>=0.9,<1", "setuptools>=80")
_NO_WHEEL = re.compile(r"No matching distribution found for (\S+===\S+)")
_NEWEST_GLIBC = 39
_BLOCK = 1 << 20


def sha256(path: Path) -> str:
    """Hash a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def platforms(machine: str) -> list[str]:
    """List the platform tags that a glibc Linux takes, since pip matches each one literally."""
    old = [f"manylinux{name}_{machine}" for name in ("1", "2010", "2014")]
    return [*(f"manylinux_2_{minor}_{machine}" for minor in range(5, _NEWEST_GLIBC + 1)), *old, f"linux_{machine}"]


def download(locks: Iterable[Path], into: Path, python: str, machine: str) -> int:
    """Fetch exactly what the locks name, as wheels for the target, with pip; return its exit code."""
    digits = python.replace(".", "")
    target = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    for abi in (f"cp{digits}", "abi3", "none"):
        target += ["--abi", abi]
    for tag in platforms(machine):
        target += ["--platform", tag]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(into), *target]
    here = python == f"{sys.version_info[0]}.{sys.version_info[1]}" and machine == platform.machine()
    for lock in locks:
        print(f"fetching {lock.name}", file=sys.stderr)
        strict, wanted = into / f".{lock.name}", exactly(lock.read_text())
        while True:
            strict.write_text(wanted)
            done = subprocess.run([*pip, "-r", str(strict)], check=False, stderr=subprocess.PIPE, text=True)
            if not done.returncode:
                break
            missing = _NO_WHEEL.search(done.stderr)
            if missing is None or missing[1] not in wanted:
                print(done.stderr, file=sys.stderr)
                return done.returncode
            if code := build(missing[1], into, same_target=here):
                return code
            wanted = wanted.replace(missing[1], "")
    return subprocess.run([*pip, *TOOLS], check=False).returncode


def build(requirement: str, into: Path, *, same_target: bool) -> int:
    """Make the wheel of a package that publishes its source alone; return an exit code.

    Pure Python runs anywhere. What compiles is made for this Python and machine: refused where the target is another.
    """
    print(f"no wheel of {requirement} for the target: building it from its source", file=sys.stderr)
    with tempfile.TemporaryDirectory() as made:
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", made, requirement]
        if code := subprocess.run(command, check=False).returncode:
            return code
        (wheel,) = Path(made).glob("*.whl")
        if not wheel.name.endswith("-none-any.whl") and not same_target:
            print(
                f"error: {requirement} compiles: {wheel.name} is for this machine alone\n"
                "  remedy: run pack.py with the target's Python, on its kind of processor",
                file=sys.stderr,
            )
            return 1
        shutil.move(wheel, into / wheel.name)
    return 0


def exactly(lock: str) -> str:
    """Ask for each version to the letter: to pip, == 2.13.0 would be met by a 2.13.0+cpu that some local folder holds."""
    return re.sub(r"^([\w.\[\],-]+)==(?!=)", r"\1===", lock, flags=re.MULTILINE)


class Pieces:
    """A stream that becomes numbered files of at most `size` bytes."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder, self._size = folder, size
        self._file: BinaryIO | None = None
        self._left = 0
        self.names: list[str] = []

    def write(self, data: bytes) -> int:
        """Append, opening the next piece where one is full."""
        view = memoryview(data)
        while view:
            if not self._left:
                self.close()
                name = PIECE.format(number=len(self.names))
                self._file, self._left = (self._folder / name).open("wb"), self._size
                self.names.append(name)
            part = view[: self._left]
            cast("BinaryIO", self._file).write(part)
            self._left -= len(part)
            view = view[len(part) :]
        return len(data)

    def close(self) -> None:
        """Close the piece that is open."""
        if self._file is not None:
            self._file.close()
            self._file = None


def pack(wheels: Iterable[Path], out: Path, piece_bytes: int) -> list[str]:
    """Write the wheels as one tar, cut into pieces; they are compressed already. Return the pieces' names."""
    pieces = Pieces(out, piece_bytes)
    with tarfile.open(fileobj=cast("BinaryIO", pieces), mode="w|") as tar:
        for wheel in wheels:
            entry = tarfile.TarInfo(wheel.name)
            entry.size = wheel.stat().st_size
            with wheel.open("rb") as stream:
                tar.addfile(entry, stream)
    pieces.close()
    return pieces.names


def manifest(arguments: argparse.Namespace, wheels: Iterable[Path], names: Iterable[str]) -> dict[str, object]:
    """Describe what was packed, for what, with every checksum."""
    out: Path = arguments.out
    return {
        "record": "airgap-manifest",
        "version": VERSION,
        "python": arguments.python,
        "machine": arguments.machine,
        "pruned_for": arguments.prune_for,
        "locks": {lock.name: sha256(lock) for lock in arguments.lock},
        "wheels": {wheel.name: sha256(wheel) for wheel in wheels},
        "pieces": [{"name": n, "bytes": (out / n).stat().st_size, "sha256": sha256(out / n)} for n in names],
    }


def stale(out: Path) -> Iterator[Path]:
    """Yield what an earlier call left in `out`."""
    yield from (path for path in (*sorted(out.glob("wheels.tar.*")), out / MANIFEST) if path.exists())


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    about, _, usage = (__doc__ or "").partition("\n\n")
    reader = argparse.ArgumentParser(description=about, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("out", type=Path, help="folder for the pieces")
    reader.add_argument("--lock", type=Path, action="append", default=[], help="a lock file; may be given several times")
    reader.add_argument("--python", default=f"{sys.version_info[0]}.{sys.version_info[1]}", help="the target's Python, X.Y")
    reader.add_argument("--machine", default="x86_64", choices=("x86_64", "aarch64"), help="the target's processor")
    reader.add_argument("--piece-mib", type=float, default=500, help="largest piece (default: 500)")
    reader.add_argument("--prune-for", metavar="X.Y", help="keep GPU code for one compute capability only, such as 9.0")
    reader.add_argument("--wheels", type=Path, help="a folder of wheels that are here already: nothing is fetched")
    found = reader.parse_args(words)
    if not found.lock and not found.wheels:
        reader.error("give --lock (what to fetch) or --wheels (what is here)")
    for path in (*found.lock, *([found.wheels] if found.wheels else [])):
        if not path.exists():
            reader.error(f"{path}: no such file or folder")
    if found.piece_mib <= 0:
        reader.error("--piece-mib must be above 0")
    return found


def main() -> int:
    """Fetch, prune when asked, pack, describe."""
    arguments = parse()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    for path in stale(out):
        path.unlink()
    work = out / ".wheels"
    folder = arguments.wheels or work
    if not arguments.wheels:
        work.mkdir(exist_ok=True)
        if code := download(arguments.lock, work, arguments.python, arguments.machine):
            print("error: pip could not fetch everything (above)\n  remedy: check pip's index settings", file=sys.stderr)
            return 1 if code else 0
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        print(f"error: {folder}: no wheels here", file=sys.stderr)
        return 2
    if arguments.prune_for:
        import prune  # beside this file

        pruned = out / ".pruned"
        wheels = [prune.wheel(each, pruned, prune.capability(arguments.prune_for)) for each in wheels]
    names = pack(wheels, out, int(arguments.piece_mib * 2**20))
    (out / MANIFEST).write_text(json.dumps(manifest(arguments, wheels, names), indent=1))
    shutil.copyfile(HERE / "assemble.py", out / "assemble.py")
    for left in (work, out / ".pruned"):
        shutil.rmtree(left, ignore_errors=True)
    size = sum((out / name).stat().st_size for name in names)
    print(f"{len(wheels)} wheels in {len(names)} pieces, {size / 1e6:.0f} MB: carry {out} over, and there run assemble.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
