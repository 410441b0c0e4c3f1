"""What comes from a model hub: weights and datasets, with every refusal as one message."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tokenhour.contracts.config.model_quantize import ModelSpec, TextSpec
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.atomic_io import disk_errors

# README.md states the licence, where the hub cannot be asked for it later.
_FILES = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "README.md")
# The same weights once more, in Mistral's own form or for another library.
_DOUBLES = ["consolidated*.safetensors", "*/*.safetensors"]
_TRANSPORT = {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "HTTPError", "TransportError", "RequestException"}


@contextlib.contextmanager
def explained(where: str, revision: str | None, instead: str) -> Iterator[None]:
    """Turn what the hub's client raises into an InputError that names the remedy, and what the disk does into its own."""
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    try:
        with disk_errors(Path(constants.HF_HUB_CACHE), kept="what was fetched whole is kept"):
            yield
    except hub.RevisionNotFoundError as error:
        raise InputError(f"no revision {revision!r}", where=where, remedy="name a commit or a tag of it") from error
    except (hub.GatedRepoError, hub.RepositoryNotFoundError) as error:
        raise InputError(
            "the hub does not give this repository: it is gated, private or does not exist",
            where=where,
            remedy="accept its terms and set HF_TOKEN, or check the name",
        ) from error
    except hub.HFValidationError as error:
        raise InputError("not a name that a hub can have", where=where, remedy="write it as owner/name") from error
    except Exception as error:  # the client raises its transport's own types
        _refuse_token(error, where)
        if not is_network(error):
            raise
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") == "1" else ""
        raise InputError(
            f"the hub cannot be reached{offline} and this is not in its local cache",
            where=where,
            remedy=f"connect, or use {instead}",
        ) from error


def _refuse_token(error: Exception, where: str) -> None:
    """Raise InputError when the hub answered that it does not know the token; it refuses public repositories then too."""
    if getattr(getattr(error, "response", None), "status_code", None) == 401:
        raise InputError(
            "the hub does not accept the token: it has expired or is wrong",
            where=where,
            remedy="set a new HF_TOKEN, or unset it (and `hf auth logout`) for what is public",
        ) from error


def is_network(error: Exception) -> bool:
    """Tell whether the operating system, or a library's transport, could not get what was asked for."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, OSError) or bool(names & _TRANSPORT)


@dataclass(frozen=True, slots=True)
class Download:
    """What fetching a repository takes."""

    cache: Path
    """Where it is kept."""
    missing_bytes: int
    """Of the files that are not there yet."""
    weight_bytes: int
    """Of all safetensors, there or not."""


def download(spec: ModelSpec) -> Download | None:
    """Ask the hub how large the files are; None when it does not say: fetching them then tells why."""
    from huggingface_hub import HfApi, constants, try_to_load_from_cache

    try:
        found = HfApi().model_info(spec.source, revision=spec.revision, files_metadata=True)
    except Exception:  # noqa: BLE001 (no network, but perhaps all of it is in the cache)
        return None
    patterns = _patterns(spec)
    wanted = [f for f in found.siblings or () if _any(f.rfilename, patterns) and not _any(f.rfilename, _DOUBLES)]
    absent = [f for f in wanted if not isinstance(try_to_load_from_cache(spec.source, f.rfilename, revision=found.sha), str)]
    return Download(
        cache=Path(constants.HF_HUB_CACHE),
        missing_bytes=sum(f.size or 0 for f in absent),
        weight_bytes=sum(f.size or 0 for f in wanted if f.rfilename.endswith(".safetensors")),
    )


def _any(name: str, patterns: list[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _patterns(spec: ModelSpec) -> list[str]:
    return [*_FILES, *(["*.py"] if spec.trust_remote_code else [])]


def snapshot(spec: ModelSpec) -> Path:
    """Fetch a repository's safetensors, configs and tokenizer (no pickles; code only when the experiment trusts it)."""
    from huggingface_hub import snapshot_download

    patterns = _patterns(spec)
    with explained(f"model.source: {spec.source}", spec.revision, "a local folder (./my-model) or package:NAME"):
        found = snapshot_download(spec.source, revision=spec.revision, allow_patterns=patterns, ignore_patterns=_DOUBLES)
        return Path(found)


def licence(spec: ModelSpec) -> str | None:
    """Return the licence that a repository's card states; None when it cannot be asked."""
    from huggingface_hub import HfApi

    try:
        card = HfApi().model_info(spec.source, revision=spec.revision).card_data
    except Exception:  # noqa: BLE001 (the licence is worth a request, not a failure)
        return None
    return card.get("license") if card else None


def dataset_rows(spec: TextSpec, name: str) -> Iterator[tuple[str, Any]]:
    """Yield (where, row) of the first `spec.rows` rows of a dataset. Streamed: what is not needed is not fetched."""
    where = f"hub:{name}"
    with explained(where, spec.revision, "a local file or: bundled"):
        from datasets import load_dataset
        from datasets.exceptions import FileNotFoundDatasetsError
        from huggingface_hub.errors import HFValidationError

        try:
            rows = load_dataset(name, spec.subset, split=spec.split, revision=spec.revision, streaming=True)
        except FileNotFoundDatasetsError as error:  # of the operating system's kind, but the hub did answer
            raise InputError(
                f"the hub does not give this dataset: {error}",
                where=where,
                remedy="accept its terms and set HF_TOKEN, or check the name and `revision`",
            ) from error
        except HFValidationError:
            raise
        except ValueError as error:  # an unknown subset or split; the message lists those that exist
            raise InputError(str(error), where=where, remedy="correct `subset` or `split`") from error
        for number, row in enumerate(itertools.islice(rows, spec.rows), 1):
            yield f"{where} row {number}", row
