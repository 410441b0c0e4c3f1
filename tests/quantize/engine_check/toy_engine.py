"""A server on loopback that computes prompt logprobs with real weights, and a quantized model to ask it about."""

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

from tests.quantize.tiny import TEXT, experiment, tiny_model
from tests.records import server
from tokenhour.contracts.errors import exit_code_of
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.machine.run_folder import RunDir
from tokenhour.quantize.build import make, publish
from tokenhour.quantize.cache_key import Workshop
from tokenhour.quantize.cli import cli
from tokenhour.quantize.evaluation.forward import load_dense
from tokenhour.quantize.model.tokenizer import ModelTokens

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
