"""A tiny real model: a random two-layer Llama with a trained tokenizer, as a folder of safetensors."""

import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from tokenhour.contracts.config.experiment import Experiment

TEXT = "\n\n".join(f"Paragraph {n}: the quick brown fox number {n * 7 % 13} jumps over lazy dog {n}." for n in range(160))


@cache
def _model(hidden: int) -> Path:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = Path(mkdtemp(prefix="tiny-model-"))
    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "</s>"]))
    PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=raw.get_vocab_size(),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def tiny_model(target: Path, hidden: int = 48) -> Path:
    """Copy the model to `target`."""
    return Path(shutil.copytree(_model(hidden), target))


def experiment(model: Path, text: Path, **quantize: Any) -> Experiment:
    """Return an experiment over the model, calibrated and evaluated on `text`."""
    text.write_text(TEXT)
    windows = {"source": str(text), "windows": 4, "window_tokens": 32}
    return Experiment.model_validate(
        {
            "name": "tiny",
            "model": {"source": str(model)},
            "schemes": ["none", "gptq-int4"],
            "quantize": {"calibration": windows, "evaluation": windows, **quantize},
            "bench": {
                "workload": {"prompt": {"mean_tokens": 8}, "output": {"mean_tokens": 8}},
                "slo": {"percentile": 90, "ttft_s": 1},
            },
            "economics": {"hardware": "c7i.large", "apis": [{"model": "m", "host": "h"}]},
        }
    )
