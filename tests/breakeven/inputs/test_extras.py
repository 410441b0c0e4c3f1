"""The inputs of a verdict that only the wider questions have, each in words with its badge and its source."""

from pathlib import Path

from tests.breakeven.scenarios import decide
from tokenhour.contracts.config.scenario import load_scenario


def test_prices_of_the_inputs_carry_their_source_and_date() -> None:
    """The inputs table shows where each price was quoted and when it was last checked."""
    found = {a.name: a for a in decide(load_scenario(Path("configs/scenarios/team.yaml"))).assumptions}
    quoted = [a for a in found.values() if a.badge == "quoted"]
    assert {"gpt-4o-mini at openai", "claude-haiku-4-5 at anthropic", "verda H100_1x, on_demand"} <= {a.name for a in quoted}
    reserved = found["nebius H100_1x, reserved_1y"]
    assert (reserved.badge, reserved.value) == ("assumed", "1.95 an hour reserved, 2.95 by the hour (USD)")
    assert all("checked 20" in a.source for a in (*quoted, reserved))


def test_features_levers_spot_and_training_are_inputs_with_their_badge() -> None:
    """Inputs of the optional questions are listed in words, each marked as quoted or assumed."""
    found = {a.name: a for a in decide(load_scenario(Path("configs/scenarios/team.yaml"))).assumptions}
    voice = found["feature voice"]
    assert (
        voice.value == "1M requests a month of 300 input and 60 output tokens; else gpt-4o-mini at openai; p99 TTFT 0.15 s"
    )
    assert (found["spot on gpu"].badge, found["quantization on gpu"].badge) == ("quoted", "assumed")
    assert found["quantization on gpu"].value == "saves 21.0% to 25.0% of it"
    assert "0.05 interruptions an hour" in found["interruptible machines"].value
    assert found["training and use"].value.startswith("$20,000 at first, $8,000 more each 6 months; 30M requests")
