#!/usr/bin/env python3
"""Join and verify the pieces on the machine without network; nothing is fetched.

    python3 assemble.py FOLDER_OF_PIECES DEST
    . DEST/env.sh && make setup DEVICE=cuda        # in the project's folder: both environments, from the wheels alone

Pieces may come in several goes. Exit 0: all is there and verified; 3: pieces are still to come; 1: something is damaged;
2: bad input.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any, BinaryIO, cast

MANIFEST = "MANIFEST.json"
DONE, DAMAGED, BAD_INPUT, TO_COME = 0, 1, 2, 3
_BLOCK = 1 << 20


def sha256(path: Path) -> str:
    """Hash a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


class Joined(io.RawIOBase):
    """Several files as one stream."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = list(paths)
        self._open: BinaryIO | None = None

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer from the file that is at its turn."""
        while True:
            if self._open is None:
                if not self._paths:
                    return 0
                self._open = self._paths.pop(0).open("rb")
            count = cast("io.BufferedReader", self._open).readinto(buffer)
            if count:
                return count
            self._open.close()
            self._open = None


def judge(folder: Path, pieces: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Return (pieces to come, damaged pieces)."""
    missing = [piece["name"] for piece in pieces if not (folder / piece["name"]).is_file()]
    here = [piece for piece in pieces if piece["name"] not in missing]
    damaged = [piece["name"] for piece in here if sha256(folder / piece["name"]) != piece["sha256"]]
    return missing, damaged


def unpack(folder: Path, names: list[str], into: Path) -> None:
    """Unpack the joined pieces; the tar filter keeps every name inside the folder."""
    with tarfile.open(fileobj=io.BufferedReader(Joined([folder / name for name in names]), _BLOCK), mode="r|") as tar:
        tar.extractall(into, filter="data")


def settings(wheels: Path) -> str:
    """Write the settings under which pip and uv take these wheels and ask nobody."""
    return (
        f'export PIP_NO_INDEX=1 PIP_FIND_LINKS="{wheels}"\n'
        f'export UV_OFFLINE=1 UV_FIND_LINKS="{wheels}"\n'
        "export HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1\n"
    )


def read(folder: Path) -> dict[str, Any] | None:
    """Read the manifest; None with a message when it cannot be used."""
    try:
        found: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        print(f"error: {folder / MANIFEST}: {error}\n  remedy: carry it over beside the pieces", file=sys.stderr)
        return None
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for name, wanted, have in (("Python", found["python"], here), ("machine", found["machine"], platform.machine())):
        if wanted != have:
            print(f"note: packed for {name} {wanted}, this is {have}", file=sys.stderr)
    return found


def main() -> int:
    """Verify, join, unpack, verify again, write the settings."""
    if len(sys.argv) != 3 or sys.argv[1] in {"-h", "--help"}:
        print(__doc__)
        return DONE if sys.argv[1:2] in (["-h"], ["--help"]) else BAD_INPUT
    folder, dest = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
    found = read(folder)
    if found is None:
        return BAD_INPUT
    missing, damaged = judge(folder, found["pieces"])
    for name in damaged:
        print(f"damaged: {name} (its checksum differs): carry it over again")
    for name in missing:
        print(f"to come: {name}")
    if damaged or missing:
        return DAMAGED if damaged else TO_COME
    wheels = dest / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    wheels.mkdir(parents=True)
    unpack(folder, [piece["name"] for piece in found["pieces"]], wheels)
    wrong = [name for name, expected in found["wheels"].items() if sha256(wheels / name) != expected]
    if wrong:
        print(f"damaged: {', '.join(wrong)}")
        return DAMAGED
    (dest / "env.sh").write_text(settings(wheels))
    print(
        f"{len(found['wheels'])} wheels verified in {wheels}\nnext, in the project's folder:  . {dest}/env.sh && make setup"
    )
    return DONE


if __name__ == "__main__":
    sys.exit(main())
