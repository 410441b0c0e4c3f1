"""The sentence of a verdict."""

from pathlib import Path

from tests.breakeven.scenarios import decide, scenario, solve
from tests.breakeven.summaries import write_all


def test_the_sentence_says_where_it_never_pays_off(tmp_path: Path) -> None:
    """The verdict's sentence names the APIs against which self-hosting never pays off."""
    write_all(tmp_path)
    text = solve(tmp_path).sentence
    assert text.startswith("It depends on the API")
    assert "novita) it never pays off" in text


def test_the_sentence_names_a_single_api() -> None:
    """With one API the sentence names it and says which side wins."""
    haiku, mini = {"model": "claude-haiku-4-5", "host": "anthropic"}, {"model": "gpt-4o-mini", "host": "openai"}
    assert "beats claude-haiku-4-5 (anthropic)" in decide(scenario(apis=[haiku])).sentence
    assert "does not beat gpt-4o-mini (openai)" in decide(scenario(apis=[mini], ops_usd_per_month=5000)).sentence
