"""Ask a running engine for the logprobs of the held-out windows: the packed kernels must compute what was quantized."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.record import Interval
from tokenhour.contracts.records.checkpoint import Checkpoint, Quality
from tokenhour.contracts.records.engine_quality import EngineQuality
from tokenhour.contracts.records.server import Server
from tokenhour.machine.progress import Status
from tokenhour.machine.run_folder import RunDir, now_utc
from tokenhour.quantize.build import current
from tokenhour.quantize.cache_key import Workshop
from tokenhour.quantize.data.text import Windows, evaluation_windows
from tokenhour.quantize.engine_check.prompt_logprobs import Said, ask
from tokenhour.quantize.engine_check.tolerance import Heard, compare
from tokenhour.quantize.evaluation.cached_states import STATES_FILE, stored
from tokenhour.quantize.evaluation.forward import load_dense, logprobs
from tokenhour.quantize.evaluation.statistics import TOP, listed_kl, perplexity, with_interval
from tokenhour.quantize.model.tokenizer import ModelTokens


def measure(experiment: Experiment, scheme: str, where: Workshop) -> EngineQuality:
    """Measure the scheme that is being served and write engine_quality.json; the server must be running."""
    run = RunDir.of(where.results, experiment, scheme)
    checkpoint, server = Checkpoint.read(run.path), Server.read(run.path)
    spec, limit = experiment.quantize.evaluation, experiment.serving.max_model_len
    if limit <= spec.window_tokens:
        raise InputError(
            f"windows of {spec.window_tokens} tokens and one more do not fit into {limit}",
            where="serving.max_model_len",
            remedy="raise it above quantize.evaluation.window_tokens",
        )
    if server.scheme != scheme or server.checkpoint_sha256 != Checkpoint.sha256_in(run.path):
        raise InputError(
            "the server that is recorded here served another checkpoint", where=str(run.path), remedy="serve this one"
        )
    original = current(experiment, "none", where)
    if original is None or original.quality is None or checkpoint.quality is None:
        raise InputError(
            "the original's checkpoint is not current", where=str(run.path), remedy="tokenhour quantize run EXP"
        )
    trusted = experiment.model.trust_remote_code
    text = evaluation_windows(spec, ModelTokens(Path(original.path), trusted=trusted))
    for name, quality in (("none", original.quality), (scheme, checkpoint.quality)):
        _refuse_other_windows(name, quality, text, run.path)
    ids = text.ids
    with Status(f"{scheme} through {server.engine}") as status:
        said = list(ask(server, ids, lambda k: status.update(f"window {k}/{len(ids)}")))
        status.update("the original's choices")
        heard = _beside_the_original(said, ids, Path(original.path), trusted=trusted)
    record = EngineQuality(
        scheme=scheme,
        engine=server.engine,
        quantization=server.quantization,
        windows=ids.shape[0],
        window_tokens=ids.shape[1],
        perplexity=perplexity(heard.nll),
        offline_perplexity=checkpoint.quality.perplexity,
        perplexity_ratio=perplexity(heard.nll - np.asarray(checkpoint.quality.window_nll)),
        inputs={kind.file_name: kind.sha256_in(run.path) for kind in (Checkpoint, Server)},
        created_utc=now_utc(),
        **compare(heard, checkpoint.quality, original.quality, ids[:, 1:].size),
    )
    run.supersede(EngineQuality.file_name)
    record.write(run.path)
    run.note("engine-quality", "done", "agrees" if record.agrees else "disagrees")
    return record


def _refuse_other_windows(name: str, quality: Quality, text: Windows, where: Path) -> None:
    if quality.evaluation.sha256 != text.record.sha256 or len(quality.window_nll) != len(text.ids):
        before, now = quality.evaluation, text.record
        raise InputError(
            f"{name} was evaluated on other windows ({before.windows} x {before.window_tokens} tokens of {before.source}) "
            f"than the experiment has now ({now.windows} x {now.window_tokens} of {now.source})",
            where=str(where),
            remedy="tokenhour quantize run EXP, then serve it again",
        )


def describe(found: EngineQuality) -> str:
    """Say each figure of the engine, the manifest's and the bounds beside it, and whether they agree."""
    figures = (
        ("loss against the original, nats a token", found.loss, found.offline_loss, found.loss_bounds, "+.4f"),
        (f"KL over {TOP} tokens", found.top_kl_divergence, found.offline_top_kl_divergence, found.top_kl_bounds, ".4f"),
        ("same top-1", found.top1_agreement, found.offline_top1_agreement, found.top1_bounds, ".1%"),
    )
    parts = [
        f"{found.scheme} through {found.engine}: {'agrees' if found.agrees else 'DISAGREES'}",
        *(_beside(*figure) for figure in figures),
        f"perplexity {found.perplexity.value:.3f} ({found.perplexity_ratio.value:.4f} x offline)",
    ]
    if found.windows == 1:
        parts.append("one window has no interval: judged by what bf16 may do alone")
    if found.scheme != "none" and not found.original_would_be_found_out:
        parts.append("so few windows do not tell it from the original: raise quantize.evaluation.windows")
    return "; ".join(parts)


def _beside(
    name: str, engine: Interval | None, offline: Interval | None, bounds: tuple[float, float] | None, form: str
) -> str:
    if engine is None or offline is None or bounds is None:
        return f"{name} not judged"
    allowed = f"allowed {bounds[0]:{form}} to {bounds[1]:{form}}"
    return f"{name} {engine.value:{form}} (offline {with_interval(offline, form)}, {allowed})"


def _beside_the_original(said: list[Said], ids: NDArray[np.int64], folder: Path, *, trusted: bool) -> Heard:
    """Compare with what the original, in fp32, says on the same windows."""
    dense = load_dense(folder, trusted=trusted)
    states = stored(folder / STATES_FILE, dense, ids)
    top1, top_kl = [], []
    for k, words in enumerate(said):
        rows = logprobs(dense, ids[k], None if states is None else states[k])
        top1.append(np.mean(rows.argmax(-1) == [tokens[0] for tokens in words.ids]))
        pairs = zip(rows, words.ids, words.logprobs, strict=True)
        top_kl.append(np.mean([listed_kl(row[tokens].astype(np.float64), mine) for row, tokens, mine in pairs]))
    return Heard(np.array([words.nll for words in said]), np.array(top1), np.array(top_kl))
