"""The plan of a probe is a typed record: read back as it was written, refused where it is another version's."""

from pathlib import Path

import pytest

from tests.bench.plans import plan
from tokenhour.bench.loadgen.probe_plan import ProbePlan
from tokenhour.bench.target.openai_api import Dialect
from tokenhour.bench.workload.request_plan import Ask
from tokenhour.contracts.errors import InputError


def test_a_plan_reads_back_from_its_file_as_it_was_written(tmp_path: Path) -> None:
    """Conversations, dialect and folder keep their types."""
    talks = [[Ask(1, 0.5, 20, 6, 3), Ask(2, None, 40, 6, 9, 2, ((3, 20, 6),))]]
    made = plan(raw=tmp_path, dialect=Dialect(api="chat", token_ids=False), talks=talks)
    made.write(tmp_path / "plan.json")
    assert ProbePlan.read(tmp_path / "plan.json") == made


@pytest.mark.parametrize(("more", "less", "named"), [({"asks": []}, set(), "asks"), ({}, {"salt"}, "salt")])
def test_a_plan_with_an_unknown_or_a_missing_key_is_refused(more: dict[str, object], less: set[str], named: str) -> None:
    """The key is named."""
    found = {key: value for key, value in plan().as_json().items() if key not in less}
    with pytest.raises(InputError, match=f"not those of a plan: {named}"):
        ProbePlan.of(found | more)


def test_stripes_hold_every_arrival_once() -> None:
    """Ten arrivals over three workers, each with its own number."""
    whole = plan(workers=3)
    parts = [whole.stripe(k) for k in range(3)]
    assert [part.worker for part in parts] == [0, 1, 2]
    asked = [ask.serial for part in parts for talk in part.talks for ask in talk]
    assert sorted(asked) == list(range(10))
    assert {len(part.talks) for part in parts} == {3, 4}
