"""Ask a running engine for the logprobs of the held-out windows: the packed kernels must compute what was quantized."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.checkpoint import Checkpoint, Quality
from contracts.engine_quality import EngineQuality
from contracts.errors import InputError, RunFailedError
from contracts.experiment import Experiment
from contracts.progress import Status
from contracts.record import Interval
from contracts.rundir import RunDir, now_utc
from contracts.server import Server
from quantize.evaluate import choices, load_dense
from quantize.inputs import Workshop
from quantize.make import current
from quantize.quality import mean_interval, perplexity
from quantize.text import evaluation_windows
from quantize.tokens import ModelTokens

_TIMEOUT_S = 300.0
_FLIPS = 0.02
"""Share of first choices that bf16 in the engine turns against fp32 offline: 1.8 % for SmolLM2-135M itself."""
Floats = NDArray[np.float64]


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
    if original is None or checkpoint.quality is None:
        raise InputError(
            "the original's checkpoint is not current", where=str(run.path), remedy="tokenhour quantize run EXP"
        )
    trusted = experiment.model.trust_remote_code
    ids = evaluation_windows(spec, ModelTokens(Path(original.path), trusted=trusted)).ids
    with Status(f"{scheme} through {server.engine}") as status:
        nll, chosen = engine_stats(server, ids, lambda k: status.update(f"window {k}/{len(ids)}"))
        status.update("the original's choices")
        dense = load_dense(Path(original.path), trusted=trusted)
        same = np.array([(mine == choices(dense, window)).mean() for mine, window in zip(chosen, ids, strict=True)])
    found = compare(nll, same, checkpoint.quality)
    record = EngineQuality(
        scheme=scheme,
        engine=server.engine,
        quantization=server.quantization,
        windows=ids.shape[0],
        window_tokens=ids.shape[1],
        inputs={kind.file_name: kind.sha256_in(run.path) for kind in (Checkpoint, Server)},
        created_utc=now_utc(),
        **found,
    )
    run.supersede(EngineQuality.file_name)
    record.write(run.path)
    run.note("engine-quality", "done", "agrees" if record.agrees else "disagrees")
    return record


def describe(found: EngineQuality) -> str:
    """Say both figures, the engine's first, and whether they agree."""
    engine, offline = found.perplexity, found.offline_perplexity
    top1, before = found.top1_agreement, found.offline_top1_agreement
    return (
        f"{found.scheme} through {found.engine}: {'agrees' if found.agrees else 'DISAGREES'}; perplexity {engine.value:.3f} "
        f"(offline {offline.value:.3f} [{offline.low:.3f}, {offline.high:.3f}], ratio {found.perplexity_ratio.value:.4f}), "
        f"same top-1 as the original {top1.value:.1%} (offline {before.value:.1%} [{before.low:.1%}, {before.high:.1%}])"
    )


def compare(nll: Floats, same: Floats, offline: Quality) -> dict[str, Any]:
    """Set the engine's figures a window, each array of shape (windows,), against the manifest's."""
    engine, top1 = perplexity(nll), mean_interval(same)
    ratio = perplexity(nll - np.asarray(offline.window_nll))
    return {
        "perplexity": engine,
        "offline_perplexity": offline.perplexity,
        "perplexity_ratio": ratio,
        "top1_agreement": top1,
        "offline_top1_agreement": offline.top1_agreement,
        "agrees": _within(engine.value, offline.perplexity) and _within(top1.value, offline.top1_agreement, _FLIPS),
    }


def _within(value: float, interval: Interval, slack: float = 0.0) -> bool:
    return interval.low is not None and interval.high is not None and interval.low - slack <= value <= interval.high + slack


def engine_stats(
    server: Server, ids: NDArray[np.int64], advance: Callable[[int], None] = lambda _: None
) -> tuple[Floats, list[NDArray[np.int64]]]:
    """Return the mean negative log-likelihood of each window, nats a token, and the engine's own choices in each."""
    nll, chosen = [], []
    for number, window in enumerate(ids, 1):
        body = {"model": server.model_id, "prompt": window.tolist(), "max_tokens": 1, "temperature": 0, "prompt_logprobs": 1}
        positions = _post(f"{server.base_url}/v1/completions", body, server.api_key_env)["choices"][0]["prompt_logprobs"][1:]
        nll.append(-np.mean([said[str(token)]["logprob"] for said, token in zip(positions, window[1:], strict=True)]))
        chosen.append(np.array([int(next(t for t, p in said.items() if p["rank"] == 1)) for said in positions]))
        advance(number)
    return np.asarray(nll), chosen


def _post(url: str, body: dict[str, Any], key_env: str | None) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), _heads(key_env))
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as reply:
            found: dict[str, Any] = json.load(reply)
            return found
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(300).decode(errors="replace")
        if error.code in (401, 403):
            raise InputError(
                f"the server answers {error.code} {error.reason}",
                where=url,
                remedy=f"put the right key into {key_env or 'the variable that operations.api_key_env names'}",
            ) from error
        raise RunFailedError(f"the engine answers {error.code}: {said}", where=url, remedy="read server.log") from error
    except OSError as error:
        raise InputError(
            f"no server answers: {error}",
            where=url,
            remedy="tokenhour serving run EXP -- tokenhour quantize through-engine EXP",
        ) from error


def _heads(key_env: str | None) -> dict[str, str]:
    """Return a request's headers; the key stands in the environment only, under the name that the server's record gives."""
    key = os.environ.get(key_env) if key_env else None
    return {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
