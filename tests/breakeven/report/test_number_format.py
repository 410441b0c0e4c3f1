"""How figures are written."""

from tokenhour.breakeven.report.number_format import sure


def test_draws_never_make_certain() -> None:
    """Probabilities from random draws are never shown as 0% or 100%."""
    assert [sure(p) for p in (0.0, 0.42, 0.994, 1.0)] == ["under 0.1%", "42.0%", "99.4%", "over 99.9%"]
