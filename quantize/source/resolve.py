"""Where weights come from: a local folder, a GGUF file, one inside an installed package, or a hub repository."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import yaml

from tokenhour.contracts.config.model_quantize import ModelSpec
from tokenhour.contracts.errors import InputError
from tokenhour.machine.hardware import installed
from tokenhour.quantize.source.gguf_header import read_head
from tokenhour.quantize.source.hub import Download, download, licence, snapshot

_PACKAGE = "package:"
_LOCAL = (".", "/", "~")
# Of a model's folder: what goes into a checkpoint beside the weights.
_TAKEN = (".json", ".model", ".txt", ".jinja")
GGUF_NOTE = "The original is itself de-quantized from the GGUF file's {kind}: quality loss is against that."


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Weights on this machine: a folder of safetensors, or one GGUF file."""

    name: str
    """For people and for folder names."""
    folder: Path
    gguf: str | None
    files: tuple[Path, ...]
    """What is hashed into the manifest."""
    license: str | None
    revision: str | None
    note: str = ""
    parameters: int | None = None
    """Of a GGUF file, by its head."""


def resolve(spec: ModelSpec) -> ModelSource:
    """Find the weights, fetching them when they are on a hub; InputError says what is missing and what to do."""
    if spec.source.startswith(_PACKAGE):
        return _package(spec.source.removeprefix(_PACKAGE))
    if spec.source.startswith(_LOCAL):
        place = Path(spec.source).expanduser()
        return _gguf_file(place) if place.suffix == ".gguf" else _folder(place)
    return _hub(spec)


def taken_along(folder: Path, *, trusted: bool) -> list[Path]:
    """List what a folder's checkpoint is made of: weights, configs, tokenizer, chat template; Python only where trusted."""
    wanted = (*_TAKEN, *([".py"] if trusted else []))
    # The index of a pickled checkpoint, or of Mistral's own form, names files that are not taken along.
    others = ("pytorch_model", "consolidated")
    beside = (file for file in folder.iterdir() if file.suffix in wanted and not file.name.startswith(others))
    return sorted((*_weights(folder), *(file for file in beside if file.is_file())))


def behind(spec: ModelSpec) -> tuple[list[Path], str]:
    """Return the files on this machine that a source stands for now, and a package's version.

    Nothing for a hub's repository, and for what is not there: `resolve` says so.
    """
    if spec.source.startswith(_PACKAGE):
        name = spec.source.removeprefix(_PACKAGE).partition("/")[0]
        return [], " ".join(f"{name} {version}" for name, version in installed((name,)).items())
    place = Path(spec.source).expanduser()
    if not spec.source.startswith(_LOCAL) or not place.exists():
        return [], ""
    return ([place] if place.is_file() else taken_along(place, trusted=spec.trust_remote_code)), ""


def download_of(spec: ModelSpec) -> Download | None:
    """Say what fetching a hub's repository takes; None for weights on this machine, and for a hub that does not say."""
    return None if spec.source.startswith((_PACKAGE, *_LOCAL)) else download(spec)


def _package(wanted: str) -> ModelSource:
    name, _, inside = wanted.partition("/")
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError as error:
        raise InputError(
            f"the package {name} is not installed",
            where="model.source",
            remedy="make setup, or install it with --no-deps",
        ) from error
    found = [f for f in distribution.files or () if str(f).endswith(".gguf") and str(f).endswith(inside)]
    if len(found) != 1:
        raise InputError(
            f"{len(found)} GGUF files in {name} match {inside or '*.gguf'!r}",
            where="model.source",
            remedy=f"name one of them: {', '.join(f'package:{name}/{f.name}' for f in found) or 'this package has none'}",
        )
    file = Path(str(distribution.locate_file(found[0])))
    label, _, kind = file.stem.partition(".")
    head = read_head(file)
    return ModelSource(
        name=label,
        folder=file.parent,
        gguf=file.name,
        files=(file,),
        license=_metadata(distribution, "License-Expression") or _metadata(distribution, "License") or head.license,
        revision=f"{name} {distribution.version}",
        note=_gguf_note(kind),
        parameters=head.parameters,
    )


def _gguf_file(file: Path) -> ModelSource:
    if not file.is_file():
        raise InputError("no such file", where=f"model.source: {file}", remedy="check the path")
    with file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise InputError("not a GGUF file", where=f"model.source: {file}", remedy="fetch it again")
    label, _, kind = file.stem.rpartition(".") if "." in file.stem else (file.stem, "", "")
    head = read_head(file)
    return ModelSource(
        name=label,
        folder=file.parent,
        gguf=file.name,
        files=(file,),
        license=head.license,
        revision=None,
        note=_gguf_note(kind),
        parameters=head.parameters,
    )


def _gguf_note(kind: str) -> str:
    return GGUF_NOTE.format(kind=kind or "packing")


def _metadata(distribution: metadata.Distribution, key: str) -> str | None:
    found = distribution.metadata.get_all(key)
    return str(found[0]) if found else None


def _folder(
    folder: Path, *, name: str | None = None, revision: str | None = None, license_id: str | None = None
) -> ModelSource:
    if not folder.is_dir():
        raise InputError("no such folder", where=f"model.source: {folder}", remedy="check the path")
    weights = _weights(folder)
    if not weights:
        raise InputError(
            "no *.safetensors here (pickled weights are not read)",
            where=f"model.source: {folder}",
            remedy="convert the weights to safetensors",
        )
    for file in weights:
        _check_safetensors(file)
    for needed in ("config.json", "tokenizer_config.json"):
        if not (folder / needed).is_file():
            raise InputError(f"{needed} is missing", where=str(folder), remedy="copy it beside the weights")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise InputError("no tokenizer (tokenizer.json or tokenizer.model)", where=str(folder), remedy="copy it there")
    other = tuple(sorted(folder.glob("*.json")))
    license_id = license_id or _stated_licence(folder / "README.md")
    return ModelSource(name or folder.resolve().name, folder, None, (*weights, *other), license_id, revision)


def _weights(folder: Path) -> tuple[Path, ...]:
    """Return the files that transformers loads: those of the index; without one, all but Mistral's own form of the same."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return tuple(file for file in sorted(folder.glob("*.safetensors")) if not file.name.startswith("consolidated"))
    try:
        wanted = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        # A name that leads out of the folder is none.
        named = [folder / Path(name).name for name in wanted]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"not an index of safetensors: {error!r}", where=str(index), remedy="fetch it again") from error
    missing = [file.name for file in named if not file.is_file()]
    if missing:
        raise InputError(f"{', '.join(missing)} of {len(wanted)} is missing", where=str(index), remedy="fetch it again")
    return tuple(named)


def _stated_licence(card: Path) -> str | None:
    """Return the licence that a model card states in its head, as those of a hub do."""
    try:
        head = card.read_text(encoding="utf-8").split("---\n")
        found = yaml.safe_load(head[1]).get("license") if len(head) > 2 and not head[0] else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def _check_safetensors(file: Path) -> None:
    """Compare the header's last offset with the file's size: a truncated download is found without loading it."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise InputError(f"not a whole safetensors file: {error}", where=str(file), remedy="fetch it again") from error


def _hub(spec: ModelSpec) -> ModelSource:
    folder = snapshot(spec)
    return _folder(folder, name=spec.source.split("/")[-1], revision=folder.name, license_id=licence(spec))
