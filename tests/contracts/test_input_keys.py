"""The names of a record's inputs are parsed as they were built."""

from tokenhour.contracts.input_keys import IDLE, PRICES, SUMMARY


def test_each_kind_finds_its_own_inputs_alone_in_their_order() -> None:
    """A path that holds another kind's prefix stays whole, and no kind takes another's input."""
    names = ("runs/b", "runs/idle:a", "runs/a")
    inputs = {SUMMARY.key(name): f"hash of {name}" for name in names} | {PRICES.key("api.yaml"): "0"}
    assert list(SUMMARY.among(inputs).items()) == [(name, f"hash of {name}") for name in names]
    assert PRICES.among(inputs) == {"api.yaml": "0"}
    assert IDLE.among(inputs) == {}
