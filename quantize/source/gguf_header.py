"""The head of a GGUF file: the licence that it states and how many parameters it holds; no weights and no library are read.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tokenhour.contracts.errors import InputError

# Value type -> struct's letter; the two others have a length.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_LICENSE = "general.license"
_LONGEST_BYTES = 1 << 30
REMEDY = "fetch the file again; where its kind of model is not supported, use the model's safetensors"


@dataclass(frozen=True, slots=True)
class GgufHead:
    """What a GGUF file says before its weights."""

    license: str | None
    parameters: int


def read_head(file: Path) -> GgufHead:
    """Read the head of a GGUF file; InputError when it is none, or ends early."""
    try:
        with file.open("rb") as stream:
            return _head(stream)
    except (struct.error, ValueError, KeyError, OverflowError, OSError) as error:
        raise InputError(
            f"the GGUF file cannot be read: its head is broken ({error})", where=f"model.source: {file}", remedy=REMEDY
        ) from error


def _head(stream: BinaryIO) -> GgufHead:
    if stream.read(4) != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    version, tensors, entries = _take(stream, "I"), _take(stream, "Q"), _take(stream, "Q")
    if version not in _VERSIONS:
        raise ValueError(f"version {version}")
    license_id = None
    for _ in range(entries):
        key, kind = _string(stream), _take(stream, "I")
        if key == _LICENSE and kind == _STRING:
            license_id = _string(stream)
        else:
            _skip(stream, kind)
    return GgufHead(license_id or None, sum(_elements(stream) for _ in range(tensors)))


def _elements(stream: BinaryIO) -> int:
    """Read a tensor's entry: name, dimensions, type, offset."""
    _skip(stream, _STRING)
    sizes = [_take(stream, "Q") for _ in range(_take(stream, "I"))]
    _take(stream, "I")
    _take(stream, "Q")
    return math.prod(sizes)


def _take(stream: BinaryIO, letter: str) -> Any:
    return struct.unpack(f"<{letter}", stream.read(struct.calcsize(f"<{letter}")))[0]


def _string(stream: BinaryIO) -> str:
    return stream.read(_length(stream)).decode(errors="replace")


def _length(stream: BinaryIO) -> int:
    found = int(_take(stream, "Q"))
    if found > _LONGEST_BYTES:
        raise ValueError(f"a string of {found} bytes")
    return found


def _skip(stream: BinaryIO, kind: int) -> None:
    """Pass over a value; an array's strings have to be gone through."""
    if kind == _STRING:
        stream.seek(_length(stream), os.SEEK_CUR)
    elif kind == _ARRAY:
        inner, count = _take(stream, "I"), _take(stream, "Q")
        if inner in _SCALARS:
            stream.seek(count * struct.calcsize(f"<{_SCALARS[inner]}"), os.SEEK_CUR)
        else:
            for _ in range(count):
                _skip(stream, inner)
    else:
        _take(stream, _SCALARS[kind])
