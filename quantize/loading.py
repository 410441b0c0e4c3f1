"""Models and tokenizers from a folder: safetensors only, and no Python of theirs unless the experiment trusts it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from contracts.errors import InputError


def refuse_code(folder: Path, *, trusted: bool) -> None:
    """Raise InputError for a model that only its own Python can build, unless that was asked for."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read config.json: {error}", where=str(folder), remedy="fetch it again") from error
    if trusted or not isinstance(config, dict) or not config.get("auto_map"):
        return
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    # Many repositories still bring code for an architecture that transformers has of its own by now.
    if config.get("model_type") in CONFIG_MAPPING_NAMES:
        return
    raise InputError(
        f"the architecture {config.get('model_type')!r} is Python code that comes with the weights",
        where=str(folder),
        remedy="read that code, then set model.trust_remote_code: true",
    )


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
