"""A library's progress is read from its log, and the time left is told."""

from pathlib import Path

import pytest

from tokenhour.quantize.library_output import Layers, last_step, passes, say_passes, time_left

pytestmark = pytest.mark.system


@pytest.mark.parametrize(
    ("printed", "layer"),
    [
        ("(3/31): Calibrating: 100%|#| 4/4 [00:00<00:00]\n(4/31): Propagating: 50%|#| 2/4 [00:01<00:01]", (4, 31)),
        ("Quantizing mlp.up_proj in layer     [0 of 29] | 0:00:01 / 0:00:54 [1/30] 3.3%\nForward rows 6/8", (1, 30)),
        ("Quantizing self_attn.o_proj in layer [27 of 29] | 0:00:51 / 0:00:54 [28/30] 93.3", (28, 30)),
        ("Quantizing mlp.up_proj in layer [29 of 29]\nSyncing lazy checkpoint writes Writing lm_head (397/397)", (30, 30)),
        ("Quantizing model.layers.1:   3%|#| 1/30 [1]\rQuantizing model.layers.27:  90%|##| 27/30 [1", (28, 30)),
        ("Writing model shards: 100%|#| 1/1 [00:00]\nnonsense (9/2)", None),
        ("", None),
    ],
)
def test_the_layer_is_read_from_a_librarys_log(tmp_path: Path, printed: str, layer: tuple[int, ...] | None) -> None:
    """Progress comes from each library's own output, whatever its form."""
    (tmp_path / "x.log").write_text(printed)
    assert last_step(tmp_path / "x.log") == layer


def test_an_earlier_runs_layers_in_the_same_log_are_not_shown(tmp_path: Path) -> None:
    """A resumed run does not show the progress of the one before it."""
    log = tmp_path / "x.log"
    log.write_text("tokenhour: 2 passes over the layers\n(31/31): Calibrating\n")
    since = log.stat().st_size
    assert (last_step(log, since), passes(log, since)) == (None, 1)
    log.write_text(log.read_text() + "(2/31): Calibrating\n")
    assert (last_step(log, since), passes(log, 0)) == ((2, 31), 2)


def test_the_passes_are_told_through_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Progress knows how often the layers are gone through."""
    say_passes(2)
    (tmp_path / "x.log").write_text(capsys.readouterr().out)
    assert passes(tmp_path / "x.log") == 2


def test_each_pass_over_the_layers_is_counted_and_timed_by_itself() -> None:
    """Time left is estimated per pass, because passes differ in pace."""
    layers = Layers()
    said = [layers.say((k, 31), 2, now) for k, now in ((1, 0), (11, 10), (31, 30), (1, 31), (11, 71), (11, 72))]
    assert said == [
        "pass 1 of 2, layer 1/31",
        "pass 1 of 2, layer 11/31, about 20 s left of this pass",
        "pass 1 of 2, layer 31/31",
        "pass 2 of 2, layer 1/31",
        "pass 2 of 2, layer 11/31, about 1 min 20 s left of this pass",
        "",
    ]
    assert Layers().say((3, 30), 1, 0.0) == "layer 3/30"


def test_time_left_is_said_only_when_a_pace_is_known() -> None:
    """No estimate is better than one without data."""
    assert time_left(0, 10, 5.0) == ""
    assert time_left(5, 10, 20.0) == ", about 40 s left"
    assert time_left(5, 0, 20.0) == ""
