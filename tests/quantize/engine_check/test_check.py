"""Quality through an engine's logprobs: a server on loopback computes with real weights, the right or the wrong ones."""

import contextlib
import itertools
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.quantize import rounding
from tests.quantize.tiny import TEXT, experiment, tiny_model
from tests.records import server
from tokenhour.contracts.errors import InputError, RunFailedError, TokenhourError, exit_code_of
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.engine_quality import EngineQuality
from tokenhour.machine.run_folder import RunDir
from tokenhour.quantize import scheme_table
from tokenhour.quantize.build import make, publish
from tokenhour.quantize.cache_key import Workshop
from tokenhour.quantize.cli import cli
from tokenhour.quantize.evaluation.forward import load_dense
from tokenhour.quantize.model.tokenizer import ModelTokens

pytestmark = pytest.mark.system

# What answers a request in the place of the true answer, which it is given.
Fault = Callable[[BaseHTTPRequestHandler, bytes], None]


def drop(handler: BaseHTTPRequestHandler, _: object) -> None:
    """Close without a word."""
    handler.close_connection = True


def half(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """Promise all and send half."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


def reset(handler: BaseHTTPRequestHandler, _: object) -> None:
    """End as a killed process does."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def answers(body: bytes, status: int = 200) -> Fault:
    """Answer with something else."""

    def say(handler: BaseHTTPRequestHandler, _: object) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return say


def say_prompt(model: Any, ids: list[int], count: int) -> bytes:
    """Write the logprobs of a prompt as vLLM does: the likeliest tokens and, with its rank, the one that stands there."""
    import torch

    with torch.inference_mode():
        rows = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    said = [None]
    for row, token in zip(rows, ids[1:], strict=False):
        top, best = row.topk(count)
        rank = int((row >= row[token]).sum())
        found = {str(token): {"logprob": float(row[token]), "rank": rank}}
        listed = enumerate(zip(best.tolist(), top.tolist(), strict=True), 1)
        said.append({**found, **{str(each): {"logprob": logprob, "rank": rank} for rank, (each, logprob) in listed}})
    return json.dumps({"choices": [{"prompt_logprobs": said}]}).encode()


@contextlib.contextmanager
def engine(folder: str | Path, fault: Fault | None = None, key: str | None = None, healthy: int = 0) -> Iterator[str]:
    """Answer /v1/completions with the prompt logprobs of the weights in `folder`, in vLLM's form; 401 without the `key`.

    `fault` answers in its place, after the first `healthy` answers.
    """
    model = load_dense(folder)
    answered = itertools.count()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Keep quiet."""

        def do_POST(self) -> None:
            """Answer with logprobs, a fault or 401."""
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if key and self.headers["Authorization"] != f"Bearer {key}":
                answers(b"", 401)(self, b"")
                return
            body = say_prompt(model, asked["prompt"], asked["prompt_logprobs"])
            (fault if fault and next(answered) >= healthy else answers(body))(self, body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()


def trained(folder: Path) -> Path:
    """Teach the tiny model its text: what rounding costs a random one is nothing that could be measured."""
    import torch

    torch.manual_seed(0)
    model = load_dense(tiny_model(folder))
    ids = ModelTokens(folder).encode(TEXT)
    windows = torch.tensor(ids[: len(ids) // 32 * 32]).reshape(-1, 32)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        model(windows, labels=windows).loss.backward()
        optimizer.step()
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


class Bench:
    """A quantized tiny model with published manifests, and the command that asks a server about it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec = experiment(trained(folder / "m"), folder / "text.txt")
        self.where = Workshop(folder / "checkpoints", folder / "results")
        self.made = {name: make(self.spec, name, self.where) for name in self.spec.schemes}
        for found in self.made.values():
            publish(found, self.spec, self.where.results)
        self.run = RunDir.of(self.where.results, self.spec, "gptq-int4").path

    def ask(self, url: str, **changes: Any) -> int:
        """Run `quantize through-engine` against the server and return its exit code."""
        known = {"checkpoint_sha256": Checkpoint.sha256_in(self.run), "quantization": "gptq"} | changes
        (self.run / "server.json").unlink(missing_ok=True)
        server(url, str(self.run), scheme="gptq-int4", **known).write(self.run)
        (self.folder / "exp.yaml").write_text(json.dumps(self.spec.model_dump(mode="json")))
        places = ["--results", str(self.where.results), "--checkpoints", str(self.where.checkpoints)]
        words = ["through-engine", str(self.folder / "exp.yaml"), "--scheme", "gptq-int4", *places]
        return exit_code_of(lambda: cli.main(words, standalone_mode=False))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Quantize the tiny model once for this file, with a loss as large as that of INT4."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(scheme_table.MODULES, "gptq-int4", ("tests.quantize.rounding", ("torch",)))
        # A loss as large as that of INT4.
        patch.setattr(rounding, "GRID", 6)
        yield Bench(tmp_path_factory.mktemp("engine-quality"))


def test_an_engine_that_computes_what_was_quantized_agrees(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """Figures through the engine match the offline ones, which proves that the right weights are served."""
    with engine(bench.made["gptq-int4"].path) as url:
        assert bench.ask(url) == 0
    found, offline = EngineQuality.read(bench.run), bench.made["gptq-int4"].quality
    assert found.agrees
    assert found.perplexity.value == pytest.approx(offline.perplexity.value, rel=1e-4)
    assert found.perplexity_ratio.value == pytest.approx(1, abs=1e-4)
    assert found.loss.value == pytest.approx(np.log(offline.perplexity_ratio), abs=1e-4)
    assert found.offline_loss.value == pytest.approx(found.loss.value, abs=1e-4)
    assert found.top_kl_divergence.value == pytest.approx(offline.top_kl_divergence.value, rel=1e-3)
    assert found.top1_agreement.value == pytest.approx(offline.top1_agreement.value, abs=1e-9)
    assert found.quantization == "gptq"
    assert found.original_would_be_found_out
    assert ": agrees; loss against the original, nats a token +" in capfd.readouterr().out


def test_an_engine_that_serves_the_original_in_its_place_is_found_out(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    """Serving unquantized weights would look better than the checkpoint, and is reported as a disagreement."""
    with engine(bench.made["none"].path) as url:
        assert bench.ask(url) == 1
    found, original = EngineQuality.read(bench.run), bench.made["none"].quality
    assert found.loss.value == pytest.approx(0, abs=1e-4)
    assert found.loss_bounds
    assert found.loss_bounds[0] > 0.1
    assert found.top_kl_divergence.value == pytest.approx(0, abs=1e-4)
    assert found.top_kl_bounds
    assert found.top_kl_bounds[0] > 0.01
    assert found.top1_agreement.value == 1
    assert found.perplexity.value == pytest.approx(original.perplexity.value, rel=1e-4)
    assert not found.agrees
    assert "DISAGREES" in capfd.readouterr().out


def test_an_engine_that_computes_something_else_is_found_out(
    bench: Bench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Broken kernels or weights fail the check with exit code 1 and an explanation."""
    other = load_dense(Path(bench.made["gptq-int4"].path))
    import torch

    with torch.no_grad():
        other.model.layers[1].mlp.down_proj.weight.mul_(-30)
    other.save_pretrained(tmp_path / "other")
    with engine(tmp_path / "other") as url:
        assert bench.ask(url) == 1
    assert not EngineQuality.read(bench.run).agrees
    shown = capfd.readouterr()
    assert "DISAGREES" in shown.out
    assert "do not compute what was quantized" in shown.err


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"checkpoint_sha256": "another"}, InputError, "served another checkpoint"),
        ({}, InputError, "no server answers"),
    ],
)
def test_another_checkpoints_server_or_none_is_refused(
    bench: Bench, capfd: pytest.CaptureFixture[str], changes: dict[str, Any], error: type[TokenhourError], said: str
) -> None:
    """The check never judges a checkpoint by a server of another one."""
    assert bench.ask("http://127.0.0.1:9", **changes) == error.exit_code
    assert said in capfd.readouterr().err


def test_what_the_engine_refuses_is_shown(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """The engine's own words reach the user."""
    with engine(bench.made["none"].path, answers(b"no", 400)) as url:
        assert bench.ask(url) == RunFailedError.exit_code
    assert "the engine answers 400: no" in capfd.readouterr().err


@pytest.mark.parametrize("healthy", [0, 2])
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (drop, "gave no whole answer"),
        (half, "gave no whole answer"),
        (reset, "gave no whole answer"),
        (answers(b"<html>"), "gave no whole answer"),
        (answers(b"[]"), "holds no logprobs"),
        (answers(b'{"choices": [{"prompt_logprobs": null}]}'), "holds no logprobs"),
        (answers(b'{"choices": [{"prompt_logprobs": [null, {}]}]}'), "holds no logprobs"),
    ],
)
def test_an_engine_that_dies_or_says_nothing_of_use_is_a_run_that_failed(
    bench: Bench, capfd: pytest.CaptureFixture[str], fault: Fault, said: str, healthy: int
) -> None:
    """Half, broken or useless answers end with one message and a remedy, never a traceback."""
    with engine(bench.made["gptq-int4"].path, fault, healthy=healthy) as url:
        assert bench.ask(url) == RunFailedError.exit_code
    shown = capfd.readouterr().err
    assert said in shown
    assert "remedy:" in shown
    assert "Traceback" not in shown


def test_a_server_that_is_gone_after_the_first_window_failed(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """A server that stops midway yields no record from partial data."""

    def goes(handler: Any, body: bytes) -> None:
        handler.server.shutdown()
        handler.server.socket.close()
        answers(body)(handler, body)

    with engine(bench.made["gptq-int4"].path, goes) as url:
        assert bench.ask(url) == RunFailedError.exit_code
    assert "remedy:" in capfd.readouterr().err


@pytest.mark.parametrize(
    "changes", [{"sha256": "another"}, {"sha256": "another", "windows": 2}], ids=["other text", "other windows"]
)
def test_a_manifest_of_other_windows_is_refused(
    bench: Bench, capfd: pytest.CaptureFixture[str], changes: dict[str, Any]
) -> None:
    """The experiment's evaluation changed after the checkpoint was published."""
    file = bench.run / Checkpoint.file_name
    kept = file.read_bytes()
    data = json.loads(kept)
    data["quality"]["evaluation"] |= changes
    data["quality"]["window_nll"] = data["quality"]["window_nll"][: changes.get("windows", 4)]
    file.write_text(json.dumps(data))
    try:
        assert bench.ask("http://127.0.0.1:9") == InputError.exit_code
    finally:
        file.write_bytes(kept)
    shown = capfd.readouterr().err
    assert "gptq-int4 was evaluated on other windows" in shown
    assert "quantize run" in shown


def test_the_key_that_the_server_wants_is_sent_from_the_environment(
    bench: Bench, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is read from its variable, appears in no record, and a wrong one is named."""
    monkeypatch.setenv("TINY_KEY", "secret")
    with engine(bench.made["gptq-int4"].path, key="secret") as url:
        assert bench.ask(url, api_key_env="TINY_KEY") == 0
        for known in ("wrong", None):
            monkeypatch.setenv("TINY_KEY", known) if known else monkeypatch.delenv("TINY_KEY")
            assert bench.ask(url, api_key_env="TINY_KEY") == InputError.exit_code
    shown = capfd.readouterr().err
    assert shown.count("the server answers 401 Unauthorized") == 2
    assert "put the right key into TINY_KEY" in shown
    assert not any("secret" in file.read_text() for file in bench.run.rglob("*.json"))


def test_windows_that_do_not_fit_into_the_engine_are_refused(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """The message names `serving.max_model_len` before the server is asked."""
    small = bench.spec.serving.model_copy(update={"max_model_len": 32})
    whole = bench.spec
    bench.spec = bench.spec.model_copy(update={"serving": small})
    try:
        assert bench.ask("http://127.0.0.1:9") == 2
    finally:
        bench.spec = whole
    assert "serving.max_model_len" in capfd.readouterr().err
