"""What is measured: the server of an experiment, or an endpoint that somebody else runs; checked before any load is sent."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenhour.bench.target.openai_api import Dialect, parse_url
from tokenhour.bench.workload.prompts import load_tokenizer
from tokenhour.contracts.config.bench import BenchSpec
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.endpoint import Endpoint, Load
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.contracts.records.server import Server
from tokenhour.machine.http import urlopen
from tokenhour.machine.run_folder import now_utc

# More users than slots, so that the engine's batch stays full.
SATURATION_USERS = 1.5
_TIMEOUT_S = 60.0
_NO_LISTING = (404, 405)
KEY_ENV = "OPENAI_API_KEY"


@dataclass(frozen=True, slots=True)
class Target:
    """A server and how to load it."""

    spec: BenchSpec
    base_url: str
    model_id: str
    dialect: Dialect
    tokenizer: Path | None
    template_tokens: int
    saturation_users: int
    accelerator: Accelerator
    metrics_urls: tuple[str, ...]
    """Where engine counters are read; added up over replicas."""
    engine_pids: tuple[int, ...]
    gpus: tuple[str, ...] = ()
    """Which GPUs to sample; empty: all."""
    key_env: str = KEY_ENV
    """The environment variable that holds the API key; never the key itself."""


def of_server(experiment: Experiment, server: Server) -> Target:
    """Return the server that `serving run` has started."""
    replicas = server.replicas
    slots = (server.max_num_seqs or experiment.serving.max_num_seqs) * max(1, len(replicas))
    return Target(
        spec=experiment.bench,
        base_url=server.base_url,
        model_id=server.model_id,
        dialect=Dialect(),
        tokenizer=Path(server.checkpoint_path) / "tokenizer.json",
        template_tokens=0,
        saturation_users=max(2, round(SATURATION_USERS * slots)),
        accelerator=server.accelerator,
        metrics_urls=tuple(r.base_url for r in replicas) or (server.base_url,),
        engine_pids=tuple(r.engine_pid for r in replicas) or (server.engine_pid,),
        gpus=server.gpus,
        key_env=server.api_key_env or KEY_ENV,
    )


def of_endpoint(load: Load, found: Endpoint) -> Target:
    """Return an endpoint that was probed before."""
    return Target(
        spec=load,
        base_url=found.base_url,
        model_id=found.model_id,
        dialect=Dialect(found.api, found.token_ids, found.continuous_usage, found.exact_output, found.limit_name),
        tokenizer=Path(found.tokenizer) if found.tokenizer else None,
        template_tokens=found.template_tokens,
        saturation_users=load.saturation_users,
        accelerator=found.accelerator,
        metrics_urls=(found.base_url,) if found.engine_counters else (),
        engine_pids=(),
    )


def check_alive(server: Server) -> None:
    """Refuse before any load when the server does not answer or serves another model."""
    remedy = "start it with: tokenhour serving run EXP -- tokenhour bench run EXP"
    if not _check_model(server.base_url, server.model_id, remedy, server.api_key_env or KEY_ENV):
        raise InputError("what answers there lists no models", where=server.base_url, remedy=remedy)
    if not Path(server.checkpoint_path, Checkpoint.file_name).is_file():
        raise InputError("its checkpoint is gone", where=server.checkpoint_path, remedy="quantize again")


def probe_endpoint(url: str, model: str, load: Load) -> Endpoint:
    """Ask an endpoint what it can do, with a handful of one-token requests. Raises InputError before any load."""
    where = parse_url(url)
    base = f"{'https' if where.tls else 'http'}://{where.authority}{where.path}"
    listed = _check_model(base, model, "check --url and --model")
    if load.tokenizer is not None:
        load_tokenizer(load.tokenizer)
    ask = _Asker(base, model)
    api = ask.api(load.api)
    degraded = []
    if not listed:
        degraded.append(f"it lists no models: that it serves {model!r} is known only from its answers")
    token_ids = api == "completions" and ask.accepts(prompt=[1, 2, 3])
    continuous = ask.streams_usage()
    exact = ask.accepts(ignore_eos=True, min_tokens=1)
    counters = "vllm:generation_tokens_total" in (_get(f"{base}/metrics") or "")
    tokenizer = str(Path(load.tokenizer).absolute()) if load.tokenizer else None
    if not token_ids and tokenizer is None:
        degraded.append("prompt lengths are approximate: it takes text only and no tokenizer was named in the load file")
    if not continuous:
        degraded.append(
            "it tells tokens only at the end of a stream: they are spread evenly over the chunks that bring text, "
            "and throughput inside a window is exact only in whole responses"
        )
    if not exact:
        degraded.append("it does not take ignore_eos and min_tokens: answers may be shorter than what was asked for")
    if not counters:
        degraded.append("it offers no engine metrics: tokens are its own word and cannot be cross-checked")
    if load.accelerators is None:
        degraded.append("the load file does not say what it runs on: figures are those of the whole endpoint")
    runs_on = load.accelerators
    return Endpoint(
        base_url=base,
        model_id=model,
        api=api,
        engine=ask.engine(),
        accelerator=Accelerator(
            kind=runs_on.kind if runs_on else "cuda",
            name=runs_on.name if runs_on else f"whatever runs {where.host}",
            count=runs_on.count if runs_on else 1,
            memory_bytes=0,
        ),
        tokenizer=tokenizer,
        token_ids=token_ids,
        continuous_usage=continuous,
        exact_output=exact,
        limit_name=ask.limit_name,
        engine_counters=counters,
        template_tokens=ask.template_tokens(tokenizer) if tokenizer and not token_ids else 0,
        degraded=tuple(degraded),
        probed_utc=now_utc(),
    )


def _get(url: str) -> str | None:
    try:
        with urlopen(_request(url), 5) as reply:
            return str(reply.read().decode(errors="replace"))
    except (OSError, ValueError, http.client.HTTPException):
        return None


def _request(url: str, content: bytes | None = None, key_env: str = KEY_ENV) -> urllib.request.Request:
    key = os.environ.get(key_env)
    heads = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    return urllib.request.Request(url, content, heads)


def _check_model(base: str, model: str, remedy: str, key_env: str = KEY_ENV) -> bool:
    """Refuse a server that does not list the model. False: it has no list, which says nothing of the model."""
    try:
        with urlopen(_request(f"{base}/v1/models", key_env=key_env), 10) as reply:
            listed = [str(entry["id"]) for entry in json.load(reply)["data"]]
    except urllib.error.HTTPError as error:
        if error.code in _NO_LISTING:
            return False
        said = {401: f"put the right key into {key_env}", 403: f"put a key that may use it into {key_env}"}
        raise InputError(
            f"the server answers {error.code} {error.reason}", where=base, remedy=said.get(error.code, remedy)
        ) from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            remedy = "name the file of its certificate authority in SSL_CERT_FILE"
        raise InputError(f"the server does not answer ({reason})", where=base, remedy=remedy) from error
    except (ValueError, KeyError, TypeError, http.client.HTTPException) as error:
        raise InputError("what answers there is no OpenAI-compatible server", where=base, remedy=remedy) from error
    if model not in listed:
        known = ", ".join(listed[:5]) or "none"
        raise InputError(f"it does not serve {model!r}; it serves {known}", where=base, remedy=remedy)
    return True


class _Asker:
    """Sends the small requests that tell what a server understands."""

    def __init__(self, base: str, model: str) -> None:
        self.base, self.model = base, model
        self.chosen = "completions"
        self.limit_name: Any = "max_tokens"
        self.server = ""

    def api(self, wanted: str) -> Any:
        """Settle on completions or chat, and on the name of the output limit."""
        for name in ("completions", "chat") if wanted == "auto" else (wanted,):
            self.chosen = name
            for self.limit_name in ("max_tokens", "max_completion_tokens"):
                if self.accepts():
                    return name
        status, text = self._post({})
        raise InputError(
            f"it refuses a plain request: HTTP {status}: {text[:200]}",
            where=self.base,
            remedy="check --model, the key and `api`",
        )

    def accepts(self, **more: Any) -> bool:
        """Tell whether it answers a request with these fields."""
        return self._post(more)[0] == 200

    def streams_usage(self) -> bool:
        """Tell whether chunks carry usage while a stream goes on."""
        options = {"include_usage": True, "continuous_usage_stats": True}
        status, text = self._post({"stream": True, "stream_options": options, self.limit_name: 2})
        events = [line for line in text.splitlines() if line.startswith("data:") and '"choices":[{' in line.replace(" ", "")]
        return status == 200 and any('"completion_tokens"' in event for event in events[:1])

    def template_tokens(self, tokenizer: str) -> int:
        """Return how many tokens the server counts beyond those of the text itself."""
        text = "The quick brown fox jumps over the lazy dog"
        own = len(load_tokenizer(tokenizer).encode(text, add_special_tokens=False).ids)
        fields = {"messages": [{"role": "user", "content": text}]} if self.chosen == "chat" else {"prompt": text}
        status, answer = self._post(fields)
        try:
            return max(0, int(json.loads(answer)["usage"]["prompt_tokens"]) - own) if status == 200 else 0
        except (ValueError, KeyError, TypeError):
            return 0

    def engine(self) -> str:
        """Name the engine, as far as it says."""
        try:
            version = json.loads(_get(f"{self.base}/version") or "{}").get("version")
        except (ValueError, AttributeError):
            version = None
        return f"vllm {version}" if version else self.server or "unknown"

    def _post(self, more: dict[str, Any]) -> tuple[int, str]:
        asked: dict[str, Any] = {"model": self.model, self.limit_name: 1, "temperature": 0}
        if self.chosen == "chat":
            asked["messages"] = [{"role": "user", "content": "Hello"}]
        else:
            asked["prompt"] = "Hello"
        path = "chat/completions" if self.chosen == "chat" else "completions"
        try:
            request = _request(f"{self.base}/v1/{path}", json.dumps(asked | more).encode())
            with urlopen(request, _TIMEOUT_S) as reply:
                self.server = reply.headers.get("Server") or self.server
                return int(reply.status), str(reply.read().decode(errors="replace"))
        except urllib.error.HTTPError as error:
            return error.code, str(error.read().decode(errors="replace"))
        except (OSError, http.client.HTTPException) as error:
            raise InputError(f"the server does not answer ({error})", where=self.base, remedy="check --url") from error
