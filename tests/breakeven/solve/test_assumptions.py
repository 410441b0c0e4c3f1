"""Every default is listed, so that none acts unseen."""

from tests.breakeven.scenarios import decide, scenario
from tokenhour.contracts.records.verdict import Verdict


def test_every_default_is_printed_as_assumed() -> None:
    """Every value the user left out is listed as an assumption, so none acts unseen."""
    found = decide(scenario(headroom=0.7))
    said = {a.name: a for a in found.assumptions if a.badge == "assumed"}
    for name in (
        "headroom",
        "fleet",
        "spare replicas",
        "operations",
        "engineering",
        "storage",
        "egress",
        "set-up",
        "growth",
    ):
        assert name in said, name
    for name in ("discount rate", "price drifts", "electricity", "uncertainty, P10 to P90", "output over input price"):
        assert name in said, name
    assert said["headroom"].source == "scenario"
    assert said["growth"].source == "default"
    unsaid = next(a for a in decide(scenario(tokens_per_month=None)).assumptions if a.name == "tokens a month")
    assert (unsaid.value, unsaid.source) == ("1B", "default")


def sources(found: Verdict) -> dict[str, str]:
    """Return the source of each assumed input by name."""
    return {a.name: a.source for a in found.assumptions if a.badge == "assumed"}


def test_every_default_is_printed_and_a_line_of_several_says_which_of_them_are() -> None:
    """Where one line shows several inputs, it says which of them are defaults."""
    plain = sources(decide())
    assert plain["headroom"] == plain["operations"] == plain["fleet"] == "default"
    assert plain["purchase"] == "scenario; default: purchase"
    assert plain["random draws"] == "scenario; default: seed"
    assert sources(decide(scenario(ops_share=0.1)))["operations"] == "scenario; default: ops_usd_per_month"
    owned = {"capex_usd": 1e5, "power_kw": 1.0, "pue": 1.2}
    found = sources(decide(scenario(purchase="owned", owned=owned, hardware=None, cloud=None)))
    assert found["owning it"].startswith("scenario; default: life_years, interest_rate_per_year")
    spot = {"interruptions_per_hour": 0.1, "checkpoint_interval_h": 1, "restart_h": 0.1}
    assert sources(decide(scenario(spot=spot)))["spot"] == "default"


def test_each_field_with_a_default_stands_on_a_line() -> None:
    """Left out: what has no effect unless asked, and what is shown as measured or quoted, or in the title."""
    import inspect

    from tokenhour.breakeven.solve import assumptions
    from tokenhour.contracts.config.economics import EconomicsSpec

    elsewhere = {
        "hardware", "region", "owned", "apis", "tokens_per_month", "requests_per_month", "prompt_tokens", "output_tokens",
        "request_classes", "profile", "currency", "rates", "on_date", "uncertainty",
        "portfolio", "levers", "spot", "commitments", "training", "efficiency",
    }  # fmt: skip
    text = inspect.getsource(assumptions)
    missing = [name for name in EconomicsSpec.model_fields if name not in elsewhere and f'"{name}"' not in text]
    assert missing == []
