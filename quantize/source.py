"""Where weights come from: a GGUF inside an installed package, a local folder, or a hub repository."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from contracts.errors import InputError
from contracts.experiment import ModelSpec

_HUB_FILES = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja")
GGUF_NOTE = "The original is itself de-quantized from the GGUF file's {kind}: quality loss is against that."


@dataclass(frozen=True, slots=True)
class Source:
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


def resolve(spec: ModelSpec) -> Source:
    """Find the weights, fetching them when they are on a hub; InputError says what is missing and what to do."""
    if spec.source.startswith("package:"):
        return _package(spec.source.removeprefix("package:"))
    if spec.source.startswith((".", "/", "~")):
        return _folder(Path(spec.source).expanduser())
    return _hub(spec)


def _package(wanted: str) -> Source:
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
    return Source(
        name=label,
        folder=file.parent,
        gguf=file.name,
        files=(file,),
        license=_metadata(distribution, "License-Expression") or _metadata(distribution, "License"),
        revision=f"{name} {distribution.version}",
        note=GGUF_NOTE.format(kind=kind or "packing"),
    )


def _metadata(distribution: metadata.Distribution, key: str) -> str | None:
    found = distribution.metadata.get_all(key)
    return str(found[0]) if found else None


def _folder(folder: Path, *, name: str | None = None, revision: str | None = None, license_id: str | None = None) -> Source:
    if not folder.is_dir():
        raise InputError("no such folder", where=f"model.source: {folder}", remedy="check the path")
    weights = tuple(sorted(folder.glob("*.safetensors")))
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
    other = tuple(sorted(folder.glob("*.json")))
    return Source(name or folder.resolve().name, folder, None, (*weights, *other), license_id, revision)


def _check_safetensors(file: Path) -> None:
    """Compare the header's last offset with the file's size: a truncated download is found without loading it."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise InputError(f"not a whole safetensors file: {error}", where=str(file), remedy="fetch it again") from error


def _hub(spec: ModelSpec) -> Source:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub import errors as hub_errors

    where = f"model.source: {spec.source}"
    try:
        patterns = [*_HUB_FILES, *(["*.py"] if spec.trust_remote_code else [])]
        folder = Path(snapshot_download(spec.source, revision=spec.revision, allow_patterns=patterns))
    except (hub_errors.GatedRepoError, hub_errors.RepositoryNotFoundError) as error:
        raise InputError(
            "the hub does not give this repository: it is gated, private or does not exist",
            where=where,
            remedy="accept its terms and set HF_TOKEN, or check the name",
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        raise InputError(f"no revision {spec.revision!r}", where=where, remedy="name a commit or a tag of it") from error
    except Exception as error:  # the hub client raises its transport's own types
        if not _is_network(error):
            raise
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") == "1" else ""
        raise InputError(
            f"the model hub cannot be reached{offline} and the repository is not in its local cache",
            where=where,
            remedy="connect, or use a local folder (./my-model) or package:NAME",
        ) from error
    return _folder(folder, name=spec.source.split("/")[-1], revision=folder.name, license_id=_license(HfApi(), spec))


def _is_network(error: Exception) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(
        isinstance(error, OSError)
        or names & {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "HTTPError", "TransportError", "RequestException"}
    )


def _license(api: Any, spec: ModelSpec) -> str | None:
    try:
        card = api.model_info(spec.source, revision=spec.revision).card_data
    except Exception:  # noqa: BLE001 (the licence is worth a request, not a failure)
        return None
    return card.get("license") if card else None
