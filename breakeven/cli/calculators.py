"""Quick calculators: a question at the desk, without a file."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from tokenhour.contracts.units import TOKENS_PER_MTOK, human_count


@click.command("crossings")
@click.option("--replica-usd", type=float, required=True, help="A month of one replica, USD.")
@click.option("--replica-tokens", type=float, required=True, help="Tokens that one replica serves in a month.")
@click.option("--api-usd-per-mtok", type=float, required=True, help="Blended API price, USD per million tokens.")
@click.option("--fixed-usd", type=float, default=0.0, show_default=True, help="Fixed cost a month, USD.")
@click.option("--redundancy", type=int, default=0, show_default=True, help="Spare replicas.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def crossings(
    replica_usd: float, replica_tokens: float, api_usd_per_mtok: float, fixed_usd: float, redundancy: int, as_json: bool
) -> None:
    """List every volume range in which self-hosting is cheaper.

    \b
    Example:
      tokenhour breakeven crossings --replica-usd 1000 --replica-tokens 1e9 --api-usd-per-mtok 1.3
    """
    from tokenhour.breakeven.model.crossings import solve
    from tokenhour.breakeven.model.replica_curve import Curve, Rules

    fleet = Curve(Rules(redundancy, max_replicas=sys.maxsize))
    found = solve(fleet, replica_usd, replica_tokens, fixed_usd, api_usd_per_mtok / TOKENS_PER_MTOK)
    answer = {
        "outcome": found.outcome,
        "first_tokens_per_month": found.first_tokens,
        "stable_tokens_per_month": found.stable_tokens,
        "windows": [list(window) for window in found.windows],
    }
    if as_json:
        print(json.dumps(answer))
        return
    if found.first_tokens is None:
        never = found.outcome == "never"
        why = "a full replica costs at least what the API takes for its tokens" if never else "no fleet is that large"
        print(f"{found.outcome}: {why}")
        return
    first, stable = human_count(found.first_tokens), found.stable_tokens
    lasting = f"for good above {human_count(stable)} tokens a month" if stable is not None else "never for good"
    print(f"{found.outcome}: first above {first}, {lasting}")
    for above, to in found.windows:
        print(f"  wins above {human_count(above)}{f' to {human_count(to)}' if to else ', for good'}")


@click.command("token-cost")
@click.option("--usd-per-hour", type=float, required=True, help="The machine, USD an hour.")
@click.option("--output-tps", type=float, required=True, help="Output tokens a second.")
@click.option("--input-tps", type=float, default=None, help="Input tokens a second.")
@click.option("--price-ratio", type=float, default=4.0, show_default=True, help="Price of an output over an input token.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def token_cost(usd_per_hour: float, output_tps: float, input_tps: float | None, price_ratio: float, as_json: bool) -> None:
    """Turn a machine's price and its throughput into USD per million tokens.

    \b
    Example:
      tokenhour breakeven token-cost --usd-per-hour 6.98 --output-tps 2464.4
    """
    from tokenhour.breakeven.model.replica_cost import token_cost as compute

    into, out = compute(usd_per_hour, output_tps, input_tps or 0.0, price_ratio)
    answer: dict[str, Any] = {"output_usd_per_mtok": out}
    if input_tps is not None:
        answer["input_usd_per_mtok"] = into
    print(json.dumps(answer) if as_json else "\n".join(f"{name}: {value:.4f}" for name, value in answer.items()))
