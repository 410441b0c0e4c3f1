"""The checkpoint manifest: what was quantized, how, from what, and what it cost in quality.

History
    1  first version
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Literal

from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.atomic_io import sha256_file
from tokenhour.contracts.record import Interval, Part, Record

_LOADED = ("*.safetensors", "*.py")
"""What engines take from a folder without being told its name."""


class SourceRecord(Part):
    """Where the weights came from."""

    source: str
    revision: str | None = None
    license: str | None = None
    """SPDX identifier where the source states one."""
    files: dict[str, str]
    """sha256 of each source file that was read."""
    note: str = ""
    """What a reader must know, such as that the original was itself de-quantized from 4 bits."""


class TextRecord(Part):
    """Text that was used, so that overlap and provenance can be checked."""

    source: str
    license: str
    windows: int
    window_tokens: int
    seed: int | None = None
    passed_over: int = 0
    """Windows that were not taken because they share a passage with the evaluation text."""
    sha256: str
    """Of the token ids, in order."""


class GenerationAgreement(Part):
    """Whether greedy answers to a fixed set of prompts stay the original's. Near ties flip it: read it beside the KL."""

    prompts: int
    tokens: int
    """Of the original's answers."""
    same_choice: Interval
    """Share of positions along the original's answers at which the same token is chosen; bootstrap over prompts."""
    before_divergence: Interval
    """Mean share of an answer before the first other choice."""
    identical: int
    """Answers that are the same to the end."""


class TaskScore(Part):
    """A metric of an lm-eval task, on the checkpoint and on the original."""

    task: str
    metric: str
    value: Interval
    """With 1.96 of lm-eval's standard errors on each side."""
    original: float | None
    documents: int


class Quality(Part):
    """Loss against the original on held-out windows. Intervals: bootstrap over windows."""

    evaluation: TextRecord
    perplexity: Interval
    original_perplexity: float
    perplexity_ratio: float
    mean_kl_divergence: Interval
    """Nats a token, KL(original || quantized)."""
    top1_agreement: Interval
    """Share of positions with the same most likely token."""
    top_kl_divergence: Interval | None = None
    """The KL divergence over the 20 tokens most likely after quantization and all others as one, at most the whole one: what
    an engine's logprobs can be compared with. Absent where it was not kept yet."""
    generation: GenerationAgreement | None = None
    tasks: tuple[TaskScore, ...] = ()
    window_nll: tuple[float, ...] = ()
    """Mean negative log-likelihood of each window, nats a token: for paired comparisons and other intervals."""
    gate: Literal["PASS", "FAIL", "none"] = "none"
    """By the gate of the experiment that made it; a later reader judges the figures by its own experiment's gate."""
    gate_reasons: tuple[str, ...] = ()


class Packed(Record):
    """Weights that are packed and not evaluated yet: a run that ends here is taken up again without quantizing anew."""

    file_name: ClassVar[str] = "packed.json"
    record: Literal["packed"] = "packed"
    version: Literal[1] = 1
    recipe: dict[str, str | int | float | bool | list[str] | None]
    notes: tuple[str, ...]
    calibration: TextRecord | None
    model_name: str
    source: SourceRecord
    quantize_seconds: float
    peak_rss_bytes: int
    files: dict[str, str]
    """sha256 of each packed file."""
    inputs: dict[str, str]


class Checkpoint(Record):
    """A folder of weights that vLLM can serve, and everything needed to defend it."""

    file_name: ClassVar[str] = "checkpoint.json"
    record: Literal["checkpoint"] = "checkpoint"
    version: Literal[1] = 1
    scheme: str
    model_name: str
    """Short name for people, such as SmolLM2-135M-Instruct."""
    path: str
    """The checkpoint's folder: absolute in a run folder's copy."""
    source: SourceRecord
    recipe: dict[str, str | int | float | bool | list[str] | None]
    """Every parameter as it was resolved."""
    notes: tuple[str, ...] = ()
    """What was resolved differently from what was asked, such as a group size."""
    calibration: TextRecord | None
    parameters: int
    bits_per_weight: float
    """Bytes of the weight files x 8 / parameters."""
    weight_bytes: int
    """Bytes of the safetensors files."""
    total_bytes: int
    """Of all files in the folder but what only evaluations of other checkpoints read."""
    memory_bytes: int = 0
    """Of the packed tensors, tied ones once: what an engine must hold for weights. 0 where it was not kept yet."""
    quantize_seconds: float
    peak_rss_bytes: int
    tool_versions: dict[str, str]
    files: dict[str, str]
    """sha256 of each file in the folder but this one."""
    quality: Quality | None
    """Absent only when no evaluation was asked for."""
    inputs: dict[str, str]
    """Hashes of what this depends on."""
    created_utc: str

    def verify(self, folder: Path, names: Iterable[str] | None = None) -> None:
        """Compare the hash of every file, or of those in `names`; InputError names the first that differs or is missing.

        A file that an engine would load although no hash of it is recorded is refused as well.
        """
        self._refuse_strangers(folder)
        for name in self.files if names is None else names:
            file = folder / name
            if not file.is_file():
                raise InputError("a file of the checkpoint is missing", where=str(file), remedy="quantize again")
            self.compare(folder, name, sha256_file(file))

    def _refuse_strangers(self, folder: Path) -> None:
        """Raise InputError for weights or code beside those that were made: engines read all that they find."""
        found = {file.name for pattern in _LOADED for file in folder.glob(pattern)}
        if strangers := sorted(found - set(self.files)):
            raise InputError(
                "an engine would load this file, which is not of the checkpoint",
                where=str(folder / strangers[0]),
                remedy="move it away",
            )

    def compare(self, folder: Path, name: str, sha256: str) -> None:
        """Raise InputError when `sha256`, of the file `name` in `folder`, is not what the manifest says."""
        if sha256 != self.files[name]:
            raise InputError(
                "the file does not match its manifest (changed or truncated)",
                where=str(folder / name),
                remedy=f"delete {folder} and quantize again",
            )
