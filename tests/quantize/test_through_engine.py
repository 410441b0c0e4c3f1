"""Quality through an engine's logprobs: a server on loopback computes with real weights, the right or the wrong ones."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from contracts.checkpoint import Checkpoint
from contracts.engine_quality import EngineQuality
from contracts.errors import InputError, RunFailedError, exit_code_of
from contracts.rundir import RunDir
from quantize import schemes
from quantize.cli import cli
from quantize.evaluate import load_dense
from quantize.inputs import Workshop
from quantize.make import make, publish
from tests.quantize.tiny import experiment, tiny_model
from tests.records import server

pytestmark = pytest.mark.system


@contextlib.contextmanager
def engine(folder, refuse=False, key=None):
    """Answer /v1/completions with the prompt logprobs of the weights in `folder`, in vLLM's form; 401 without the `key`."""
    import torch

    model = load_dense(folder)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            ids = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["prompt"]
            if key and self.headers["Authorization"] != f"Bearer {key}":
                self.send_response(401)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            with torch.inference_mode():
                rows = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            said = [None]
            for row, token in zip(rows, ids[1:], strict=False):
                best = int(row.argmax())
                found = {str(best): {"logprob": float(row[best]), "rank": 1}}
                rank = int((row > row[token]).sum()) + 1
                said.append({str(token): {"logprob": float(row[token]), "rank": rank}, **found})
            body = json.dumps({"choices": [{"prompt_logprobs": said}]}).encode()
            self.send_response(400 if refuse else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()


class Bench:
    """A quantized tiny model with published manifests, and the command that asks a server about it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec = experiment(tiny_model(folder / "m"), folder / "text.txt")
        self.where = Workshop(folder / "checkpoints", folder / "results")
        self.made = {name: make(self.spec, name, self.where) for name in self.spec.schemes}
        for found in self.made.values():
            publish(found, self.spec, self.where.results)
        self.run = RunDir.of(self.where.results, self.spec, "gptq-int4").path

    def ask(self, url: str, **changes) -> int:
        known = {"checkpoint_sha256": Checkpoint.sha256_in(self.run), "quantization": "gptq"} | changes
        (self.run / "server.json").unlink(missing_ok=True)
        server(url, str(self.run), scheme="gptq-int4", **known).write(self.run)
        (self.folder / "exp.yaml").write_text(json.dumps(self.spec.model_dump(mode="json")))
        places = ["--results", str(self.where.results), "--checkpoints", str(self.where.checkpoints)]
        words = ["through-engine", str(self.folder / "exp.yaml"), "--scheme", "gptq-int4", *places]
        return exit_code_of(lambda: cli.main(words, standalone_mode=False))


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(schemes.MODULES, "gptq-int4", ("tests.quantize.rounding", ("torch",)))
        yield Bench(tmp_path_factory.mktemp("engine-quality"))


def test_an_engine_that_computes_what_was_quantized_agrees(bench, capfd):
    with engine(bench.made["gptq-int4"].path) as url:
        assert bench.ask(url) == 0
    found, offline = EngineQuality.read(bench.run), bench.made["gptq-int4"].quality
    assert found.agrees
    assert found.perplexity.value == pytest.approx(offline.perplexity.value, rel=1e-4)
    assert found.perplexity_ratio.value == pytest.approx(1, abs=1e-4)
    assert found.top1_agreement.value == pytest.approx(offline.top1_agreement.value, abs=1e-9)
    assert found.quantization == "gptq"
    assert ": agrees; perplexity" in capfd.readouterr().out


def test_an_engine_that_computes_something_else_is_found_out(bench, tmp_path, capfd):
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
def test_another_checkpoints_server_or_none_is_refused(bench, capfd, changes, error, said):
    assert bench.ask("http://127.0.0.1:9", **changes) == error.exit_code
    assert said in capfd.readouterr().err


def test_what_the_engine_refuses_is_shown(bench, capfd):
    with engine(bench.made["none"].path, refuse=True) as url:
        assert bench.ask(url) == RunFailedError.exit_code
    assert "the engine answers 400" in capfd.readouterr().err


def test_the_key_that_the_server_wants_is_sent_from_the_environment(bench, capfd, monkeypatch):
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


def test_windows_that_do_not_fit_into_the_engine_are_refused(bench, capfd):
    small = bench.spec.serving.model_copy(update={"max_model_len": 32})
    whole = bench.spec
    bench.spec = bench.spec.model_copy(update={"serving": small})
    try:
        assert bench.ask("http://127.0.0.1:9") == 2
    finally:
        bench.spec = whole
    assert "serving.max_model_len" in capfd.readouterr().err
