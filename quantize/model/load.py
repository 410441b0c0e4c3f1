"""Models and tokenizers from a folder: safetensors only, and no Python of theirs unless the experiment trusts it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenhour.contracts.errors import InputError


def refuse_unusable(folder: Path, *, trusted: bool) -> None:
    """Raise InputError for weights that are quantized already, and for an architecture that transformers cannot build.

    One that only its own Python can build is refused unless that was asked for.
    """
    config = _config(folder)
    if packed := config.get("quantization_config") or config.get("compression_config"):
        kind = packed.get("quant_method", "") if isinstance(packed, dict) else ""
        raise InputError(
            f"these weights are quantized already{f' ({kind})' if kind else ''}",
            where=str(folder),
            remedy="name the original weights that they were made from",
        )
    from transformers import __version__
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    own, kind = bool(config.get("auto_map")), config.get("model_type")
    # Many repositories still bring code for an architecture that transformers has of its own by now.
    if (own and trusted) or kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return
    if own:
        raise InputError(
            f"the architecture {kind!r} is Python code that comes with the weights",
            where=str(folder),
            remedy="read that code, then set model.trust_remote_code: true",
        )
    raise InputError(
        f"transformers {__version__} has no causal language model {kind!r} (model_type in config.json)",
        where=str(folder),
        remedy="name a model that it has, or install a newer transformers",
    )


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read config.json: {error}", where=str(folder), remedy="fetch it again") from error
    if not isinstance(found, dict):
        raise InputError("config.json holds no object", where=str(folder), remedy="fetch it again")
    return found


def causal_model(folder: Path, *, trusted: bool, **settings: Any) -> Any:
    """Load a causal language model from safetensors with transformers."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=trusted, use_safetensors=True, local_files_only=True, **settings
    )


def tokenizer_of(folder: Path, *, trusted: bool) -> Any:
    """Load the tokenizer; InputError when there is none that can be read."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trusted, local_files_only=True)
    except Exception as error:  # each tokenizer class has errors of its own
        raise InputError(
            f"the tokenizer cannot be read: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            where=str(folder),
            remedy="copy tokenizer.json and tokenizer_config.json of the model beside the weights",
        ) from error
