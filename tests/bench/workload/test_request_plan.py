"""The token ids of a prompt come from the plan and a salt, and a plan survives its way to a worker."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.workload.test_sampling import SOURCE, SPEC, TEXT
from tokenhour.bench.workload.request_plan import as_rows, cut, from_rows, ids_of
from tokenhour.bench.workload.sampling import asks
from tokenhour.contracts.config.bench import (
    Conversations,
    SharedPrefix,
    WorkloadSpec,
)


@given(st.integers(1, 300), st.integers(0, 5000), st.integers(0, 10**6))
def test_a_prompt_has_exactly_the_tokens_asked_for_and_only_ordinary_ones(length: int, start: int, serial: int) -> None:
    """Special tokens would change what the engine does; another length would change the cost."""
    ids = cut(TEXT, length, start, f"salt:{serial}")
    assert len(ids) == length
    assert set(ids.tolist()) <= set(TEXT.tolist())


def prompts(spec: WorkloadSpec, salt: str, count: int = 30) -> list[list[list[int]]]:
    """Return the token ids of every turn."""
    prefix = spec.shared_prefix.tokens if spec.shared_prefix else 0
    return [[ids_of(ask, TEXT, salt, prefix) for ask in talk] for talk in asks(spec, SOURCE, 1, count)]


def test_the_same_seed_gives_the_same_lengths_and_another_salt_other_prompts() -> None:
    """Repeated runs compare the same load, and none finds the other's prompts in a cache."""
    one, two = ([talk[0] for talk in prompts(SPEC, salt)] for salt in ("a", "b"))
    assert [len(ids) for ids in one] == [len(ids) for ids in two]
    assert all(a[:8] != b[:8] for a, b in zip(one, two, strict=True))
    assert len({tuple(ids[:8]) for ids in one}) == 30


def test_a_group_shares_its_prefix_and_nothing_else() -> None:
    """The prefix cache finds the declared prefix and not a token more."""
    spec = SPEC.model_copy(update={"shared_prefix": SharedPrefix(groups=2, tokens=12)})
    found = [talk[0] for talk in prompts(spec, "a")]
    assert len({tuple(ids[:12]) for ids in found}) == 2
    assert len({tuple(ids[12:20]) for ids in found}) == 30
    assert [len(ids) for ids in found] == [talk[0].prompt_tokens for talk in asks(spec, SOURCE, 1, 30)]


def test_a_turn_repeats_the_earlier_turns_of_its_conversation_exactly() -> None:
    """Later turns can hit the cache as a chat's history does."""
    spec = SPEC.model_copy(update={"conversations": Conversations(turns=3)})
    for talk, ids in zip(asks(spec, SOURCE, 1, 10), prompts(spec, "a", 10), strict=True):
        assert [len(i) for i in ids] == [ask.prompt_tokens for ask in talk]
        for earlier, later, ask in zip(ids, ids[1:], talk, strict=False):
            assert later[: len(earlier)] == earlier
            assert len(later) > len(earlier) + ask.output_tokens


def test_conversations_with_a_shared_prefix_keep_both_promises() -> None:
    """Every turn begins with the prefix and repeats its history."""
    spec = SPEC.model_copy(update={"conversations": Conversations(turns=2), "shared_prefix": SharedPrefix(tokens=10)})
    found = prompts(spec, "a", 10)
    assert len({tuple(ids[:10]) for talk in found for ids in talk}) == 1
    assert all(second[: len(first)] == first for first, second in found)


def test_a_plan_survives_the_way_to_a_worker() -> None:
    """The compact form that is sent to workers loses nothing."""
    spec = SPEC.model_copy(update={"conversations": Conversations(turns=3)})
    planned = asks(spec, SOURCE, 1, np.array([0.5, 1.5]))
    assert from_rows(as_rows(planned)) == planned
