"""`none`: the original weights as bf16 safetensors with config and tokenizer."""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenhour.contracts.errors import InputError
from tokenhour.quantize.evaluation.forward import load_dense
from tokenhour.quantize.memory_errors import out_of_memory
from tokenhour.quantize.model.load import tokenizer_of
from tokenhour.quantize.scheme_table import Recipe
from tokenhour.quantize.source.gguf_header import REMEDY
from tokenhour.quantize.source.resolve import ModelSource, taken_along

load = load_dense


def export(source: ModelSource, target: Path, *, trusted: bool = False) -> Recipe:
    """Write the source into `target` as a folder that transformers and vLLM read."""
    if source.gguf is None:
        _copy(source.folder, target, trusted=trusted)
        return {"method": "copy"}
    _unpack(source.folder, source.gguf, target)
    return {"method": "GGUF de-quantized to bf16", "dtype": "bfloat16"}


def _copy(folder: Path, target: Path, *, trusted: bool) -> None:
    for file in taken_along(folder, trusted=trusted):
        shutil.copyfile(file, target / file.name)
    if not (target / "tokenizer.json").is_file():
        tokenizer_of(folder, trusted=trusted).save_pretrained(target)


def _unpack(folder: Path, gguf: str, target: Path) -> None:
    """De-quantize through transformers.

    Its GGUF loader leaves a quantization_config that cannot be saved, so the tensors move into a fresh model of the
    same shape.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _readable(folder / gguf), _parsed_once():
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf)
        packed, found = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=gguf, dtype=torch.float32, output_loading_info=True
        )
        # The GGUF names the token that ends a turn by its id; the tokenizer that is read from it lost that.
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(packed.config.eos_token_id)
    if absent := sorted(found["missing_keys"]):
        # transformers would go on with random numbers in their place.
        raise InputError(f"{len(absent)} tensors are missing: {absent[0]}", where=str(folder / gguf), remedy=REMEDY)
    config = packed.config
    for leftover in ("quantization_config", "_name_or_path"):
        if hasattr(config, leftover):
            delattr(config, leftover)
    config.dtype = torch.bfloat16
    dense: Any = type(packed)(config)
    dense.load_state_dict(packed.state_dict())
    dense.tie_weights()
    dense.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turn what the readers of a GGUF file raise into an InputError; memory that runs out is not the file's fault."""
    try:
        yield
    except Exception as error:  # a broken file makes them raise struct.error, ValueError, KeyError, IndexError, ...
        if out_of_memory(error):
            raise
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"the GGUF file cannot be read: {said}", where=str(file), remedy=REMEDY) from error


@contextlib.contextmanager
def _parsed_once() -> Iterator[None]:
    """Let transformers share one parsed GGUF file: it reads it four times over, 5 s each for a vocabulary of 49,000."""
    import gguf

    parse = gguf.GGUFReader
    gguf.GGUFReader = functools.cache(parse)
    try:
        yield
    finally:
        gguf.GGUFReader = parse
