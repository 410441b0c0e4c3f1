"""A checkpoint is made whole or not at all, reused only while its inputs and files are the same."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tests.quantize.tiny import TEXT, experiment, tiny_model
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.config.model_quantize import GROUP_SIZES, ModelSpec, QuantizeSpec
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.io.atomic_io import write_text_atomic
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.machine.run_folder import RunDir
from tokenhour.quantize import scheme_table
from tokenhour.quantize.build import current, make, publish
from tokenhour.quantize.cache_key import Workshop, expected_inputs, folder_of, log_of, packed_of
from tokenhour.quantize.cli import cli
from tokenhour.quantize.evaluation.cached_states import STATES_FILE
from tokenhour.quantize.evaluation.forward import load_dense
from tokenhour.quantize.library_output import Layers, last_step, passes, say_passes, time_left
from tokenhour.quantize.manifest import quality_of
from tokenhour.quantize.scheme_table import group_note, resolve_group_size

pytestmark = pytest.mark.system

RUN = """
import sys
from pathlib import Path
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.quantize import scheme_table as schemes
from tokenhour.quantize.build import Workshop, make
schemes.MODULES["gptq-int4"] = ("tests.quantize.rounding", ("torch",))
make(Experiment.read(Path(sys.argv[1])), "gptq-int4", Workshop(Path(sys.argv[1]) / "checkpoints", Path(sys.argv[1])))
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Experiment, Workshop]:
    """Return (experiment over a tiny model, workshop), with a quick stand-in for the INT4 scheme."""
    monkeypatch.setitem(scheme_table.MODULES, "gptq-int4", ("tests.quantize.rounding", ("torch",)))
    return experiment(tiny_model(tmp_path / "m"), tmp_path / "text.txt"), Workshop(
        tmp_path / "checkpoints", tmp_path / "results"
    )


def test_a_manifest_says_what_was_made_and_from_what(shop: tuple[Experiment, Workshop]) -> None:
    """The manifest alone tells source, recipe, quality, sizes and tool versions of a checkpoint."""
    spec, where = shop
    found = make(spec, "gptq-int4", where)
    folder = Path(found.path)
    assert Checkpoint.read(folder) == found
    assert found.scheme == "gptq-int4"
    assert found.calibration.windows == 4
    assert found.recipe["group_size"] == 16  # divides 48 and 96
    assert "group size 16 instead of 128" in found.notes[0]
    assert found.weight_bytes == (folder / "model.safetensors").stat().st_size
    assert 0 < found.quality.mean_kl_divergence.value < 1
    assert found.quality.top1_agreement.value <= 1
    assert found.quality.generation.prompts == 16
    assert 0 <= found.quality.generation.before_divergence.value <= found.quality.generation.same_choice.value <= 1
    assert len(found.quality.window_nll) == 4
    assert 0 < found.memory_bytes < found.weight_bytes
    assert found.tool_versions == {"torch": metadata.version("torch")}
    assert 0 < found.quantize_seconds < 60
    assert 10**7 < found.peak_rss_bytes < 10**11
    assert found.total_bytes == sum((folder / name).stat().st_size for name in found.files)
    assert set(found.source.files) >= {"model.safetensors", "config.json"}
    found.verify(folder)


def test_the_originals_loss_is_zero(shop: tuple[Experiment, Workshop]) -> None:
    """Compared with itself the original loses nothing, which anchors every other figure."""
    found = make(shop[0], "none", shop[1])
    assert found.quality.mean_kl_divergence.value == 0
    assert found.quality.perplexity_ratio == 1
    assert found.calibration is None
    assert found.quality.generation.identical == 16


def test_what_is_current_is_reused_and_only_that(shop: tuple[Experiment, Workshop]) -> None:
    """Only inputs that affect a scheme make its checkpoint stale; a new experiment name does not."""
    spec, where = shop
    made = make(spec, "gptq-int4", where)
    assert current(spec, "gptq-int4", where) == made
    gated = spec.model_copy(update={"name": "other"})
    assert current(gated, "gptq-int4", where) == made
    calibration = spec.quantize.calibration.model_copy(update={"seed": 1})
    reseeded = spec.model_copy(update={"quantize": spec.quantize.model_copy(update={"calibration": calibration})})
    assert current(reseeded, "gptq-int4", where) is None
    assert current(reseeded, "none", where) is not None
    write_text_atomic(Path(spec.quantize.calibration.source), TEXT + "more")
    assert current(spec, "gptq-int4", where) is None


def test_a_file_that_was_changed_is_refused(shop: tuple[Experiment, Workshop]) -> None:
    """A checkpoint whose weights differ from the manifest is rejected instead of served."""
    spec, where = shop
    weights = Path(make(spec, "none", where).path) / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(InputError, match="does not match its manifest"):
        current(spec, "none", where)


def test_a_failure_leaves_only_the_log(shop: tuple[Experiment, Workshop], monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk leaves no half checkpoint, and the log keeps how far it came."""
    spec, where = shop
    make(spec, "none", where)
    monkeypatch.setenv("ROUNDING_FAILS", str(errno.ENOSPC))
    with pytest.raises(RunFailedError, match="no space left"):
        make(spec, "gptq-int4", where)
    folder = folder_of(spec, "gptq-int4", where)
    assert not folder.exists()
    assert not list(where.checkpoints.glob(".*.part"))
    assert "layer 1/2" in log_of(folder).read_text()


@pytest.mark.parametrize("killer", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_leaves_nothing_that_is_trusted_and_the_next_one_goes_on(
    shop: tuple[Experiment, Workshop], tmp_path: Path, killer: signal.Signals
) -> None:
    """After any kind of kill the next run makes a whole checkpoint and cleans up."""
    spec, where = shop
    make(spec, "none", where)
    spec.write(tmp_path)
    child = _half_way(tmp_path)
    child.send_signal(killer)
    child.wait(20)
    assert current(spec, "gptq-int4", where) is None
    made = make(spec, "gptq-int4", where)
    made.verify(Path(made.path))
    assert not list(where.checkpoints.glob(".*.part"))
    assert not list(where.checkpoints.glob(".*.lock"))


def _half_way(folder: Path) -> subprocess.Popen[bytes]:
    """Start a process that makes the checkpoint, and return it when it is in the midst of quantizing."""
    mark = folder / "waiting"
    argv = [sys.executable, "-c", RUN, str(folder)]
    child = subprocess.Popen(argv, env={**os.environ, "ROUNDING_WAITS": str(mark)}, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not mark.exists():
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return child


def test_a_second_run_of_the_same_checkpoint_is_refused_and_takes_nothing_from_the_first(
    shop: tuple[Experiment, Workshop], tmp_path: Path
) -> None:
    """The message names the process that is at work, and its files stay untouched."""
    spec, where = shop
    make(spec, "none", where)
    spec.write(tmp_path)
    child = _half_way(tmp_path)
    try:
        before = sorted(where.checkpoints.rglob("*"))
        with pytest.raises(InputError, match=rf"another run is making this checkpoint \(process {child.pid}\)"):
            make(spec, "gptq-int4", where)
        assert sorted(where.checkpoints.rglob("*")) == before
        assert child.poll() is None
    finally:
        child.kill()
        child.wait(20)


def test_what_another_run_has_finished_meanwhile_is_taken(
    shop: tuple[Experiment, Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished checkpoint is reused rather than made a second time."""
    spec, where = shop
    made = make(spec, "none", where)
    monkeypatch.setattr("tokenhour.quantize.build._make_original", _fails)
    assert make(spec, "none", where) == made


def test_a_text_that_a_hub_does_not_give_any_more_keeps_what_was_quantized(
    shop: tuple[Experiment, Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of quantizing are not lost to a network error: the same command resumes at the evaluation."""
    spec, where = shop
    make(spec, "none", where)
    with monkeypatch.context() as patch:
        patch.setattr("tokenhour.quantize.build.finish", _refuses)
        with pytest.raises(RunFailedError, match="the hub cannot be reached; the quantized weights are kept") as caught:
            make(spec, "gptq-int4", where)
    assert "connect; the same command goes on from there" in caught.value.remedy
    assert packed_of(folder_of(spec, "gptq-int4", where)).is_dir()
    monkeypatch.setenv("ROUNDING_FAILS", str(errno.EIO))
    make(spec, "gptq-int4", where)


def _refuses(*_: object) -> None:
    raise InputError("the hub cannot be reached", where="hub:a/b", remedy="connect")


def test_what_was_packed_is_taken_up_without_quantizing_again(
    shop: tuple[Experiment, Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut during evaluation, only the evaluation is repeated."""
    spec, where = shop
    make(spec, "none", where)
    folder = folder_of(spec, "gptq-int4", where)
    with monkeypatch.context() as patch:
        patch.setattr("tokenhour.quantize.build.finish", _fails)
        with pytest.raises(OSError, match="power cut"):
            make(spec, "gptq-int4", where)
    assert not folder.exists()
    assert current(spec, "gptq-int4", where) is None
    assert not Checkpoint.exists(packed_of(folder))
    # Quantizing would fail now; evaluating does not.
    monkeypatch.setenv("ROUNDING_FAILS", str(errno.EIO))
    found = make(spec, "gptq-int4", where)
    found.verify(folder)
    assert {file.name for file in folder.iterdir()} == {*found.files, "checkpoint.json"}
    assert not packed_of(folder).exists()


def test_packed_weights_that_were_changed_since_are_made_anew(
    shop: tuple[Experiment, Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept weights are resumed only if they are still what was written."""
    spec, where = shop
    make(spec, "none", where)
    folder = folder_of(spec, "gptq-int4", where)
    with monkeypatch.context() as patch:
        patch.setattr("tokenhour.quantize.build.finish", _fails)
        with pytest.raises(OSError, match="power cut"):
            make(spec, "gptq-int4", where)
    weights = packed_of(folder) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    make(spec, "gptq-int4", where).verify(folder)


def _fails(*_: object) -> None:
    raise OSError("power cut")


def test_weights_that_were_trained_further_under_the_same_name_are_not_current(shop: tuple[Experiment, Workshop]) -> None:
    """A changed source under an unchanged path would otherwise be served in its old state."""
    spec, where = shop
    made = make(spec, "none", where)
    assert current(spec, "none", where) == made
    weights = Path(spec.model.source) / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert current(spec, "none", where) is None


@pytest.mark.parametrize("name", ["merges.txt", "tokenizer.model", "chat_template.jinja", "tokenizer_config.json"])
def test_a_tokenizer_or_template_that_was_changed_is_not_current(shop: tuple[Experiment, Workshop], name: str) -> None:
    """Tokenizer and chat template belong to the inputs, since they change what the model reads."""
    spec, where = shop
    file = Path(spec.model.source) / name
    before = expected_inputs(spec, "none", where)
    file.write_text((file.read_text() if file.exists() else "") + " ")
    assert expected_inputs(spec, "none", where)["weights"] != before["weights"]


def test_python_beside_the_weights_counts_where_it_is_trusted(shop: tuple[Experiment, Workshop]) -> None:
    """Code matters only with `trust_remote_code`, so a stray script does not cost a rebuild."""
    spec, where = shop
    trusting = spec.model_copy(update={"model": spec.model.model_copy(update={"trust_remote_code": True})})
    before = [expected_inputs(each, "none", where)["weights"] for each in (spec, trusting)]
    (Path(spec.model.source) / "modeling.py").write_text("pass")
    after = [expected_inputs(each, "none", where)["weights"] for each in (spec, trusting)]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False]


def test_a_text_in_the_home_folder_is_hashed_where_it_is_read(
    shop: tuple[Experiment, Workshop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `~` in a text's path is expanded, so a changed text is noticed."""
    spec, where = shop
    monkeypatch.setenv("HOME", str(tmp_path))
    texts = {"evaluation": {"source": "~/text.txt", "windows": 4, "window_tokens": 32}}
    homely = spec.model_copy(update={"quantize": QuantizeSpec.model_validate(texts)})
    before = expected_inputs(homely, "none", where)
    (tmp_path / "text.txt").write_text(TEXT + "more")
    assert expected_inputs(homely, "none", where) != before


def test_another_bundled_text_or_package_is_another_checkpoint(
    shop: tuple[Experiment, Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade of the weights' package or of the bundled text makes checkpoints stale."""
    spec, where = shop
    packaged = spec.model_copy(update={"quantize": QuantizeSpec(), "model": ModelSpec(source="package:acme-weights/x.gguf")})
    monkeypatch.setattr("tokenhour.quantize.source.resolve.installed", lambda names: dict.fromkeys(names, "1.0"))
    before = expected_inputs(packaged, "none", where)
    monkeypatch.setattr("tokenhour.quantize.source.resolve.installed", lambda names: dict.fromkeys(names, "1.1"))
    after = expected_inputs(packaged, "none", where)
    assert {key for key in before if before[key] != after[key]} == {"package"}
    monkeypatch.setattr("tokenhour.quantize.cache_key.bundled_text", lambda: "of another Python")
    again = expected_inputs(packaged, "none", where)
    assert {key for key in after if after[key] != again[key]} == {"text:bundled"}


def test_what_was_made_of_another_original_is_not_current(
    shop: tuple[Experiment, Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub's `main` moves on under the same name: only the original's own files tell."""
    spec, where = shop
    monkeypatch.setattr("tokenhour.quantize.cache_key.behind", lambda _: ([], ""))
    made = make(spec, "gptq-int4", where)
    base, kept = folder_of(spec, "none", where), where.checkpoints / "kept"
    base.rename(kept)
    weights = Path(spec.model.source) / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    make(spec, "none", where)
    assert current(spec, "gptq-int4", where) is None
    again = make(spec, "gptq-int4", where)
    assert again.path != made.path
    shutil.rmtree(base)
    kept.rename(base)
    assert current(spec, "gptq-int4", where) == made
    # Without an original it cannot be known; once that is made again, the one that is there counts.
    shutil.rmtree(base)
    weights.write_bytes(before)
    assert current(spec, "gptq-int4", where) is None
    assert make(spec, "gptq-int4", where) == made


def test_a_project_that_was_moved_is_used_where_it_is(shop: tuple[Experiment, Workshop], tmp_path: Path) -> None:
    """Moving the folder of checkpoints costs no new quantization."""
    spec, where = shop
    make(spec, "none", where)
    moved = Workshop(tmp_path / "elsewhere" / "checkpoints", where.results)
    moved.checkpoints.parent.mkdir()
    where.checkpoints.rename(moved.checkpoints)
    found = current(spec, "none", moved)
    assert Path(found.path) == folder_of(spec, "none", moved).resolve()
    publish(found, spec, where.results)
    assert Checkpoint.read(RunDir.of(where.results, spec, "none").path).path == found.path
    assert make(spec, "gptq-int4", moved).quality.mean_kl_divergence.value > 0
    assert not where.checkpoints.exists()


def test_states_of_another_text_are_not_taken_for_the_originals(shop: tuple[Experiment, Workshop], tmp_path: Path) -> None:
    """Only the first window's are looked at: a hub's text may differ behind it."""
    spec, where = shop
    import torch

    base = Path(make(spec, "none", where).path)
    models = load_dense(base), load_dense(base)
    with torch.no_grad():
        models[1].model.layers[1].mlp.down_proj.weight.mul_(3)
    places, silent = (tmp_path, tmp_path, base), Silent()
    right = quality_of(spec, *models, places, silent)
    states = np.load(base / STATES_FILE)
    states[-1] = 0
    np.save(base / STATES_FILE, states)
    assert quality_of(spec, *models, places, silent).mean_kl_divergence != right.mean_kl_divergence
    manifest = json.loads((base / Checkpoint.file_name).read_text())
    manifest["quality"]["evaluation"]["sha256"] = "another"
    write_text_atomic(base / Checkpoint.file_name, json.dumps(manifest))
    found = quality_of(spec, *models, places, silent)
    assert found.mean_kl_divergence.value == pytest.approx(right.mean_kl_divergence.value, rel=1e-4)


class Silent:
    def update(self, _: object) -> None:
        """Show nothing."""

    def elapsed_s(self) -> float:
        """Report that no time has passed."""
        return 0.0


def test_another_gate_is_judged_without_making_anything(shop: tuple[Experiment, Workshop], tmp_path: Path) -> None:
    """A new quality bound is applied to the recorded figures, without hours of work."""
    spec, where = shop
    strict = spec.model_dump(mode="json")
    arguments = ["run", str(tmp_path / "e.yaml"), "--scheme", "gptq-int4", "--results", str(where.results)]
    arguments += ["--checkpoints", str(where.checkpoints)]
    said = []
    for bound in (10.0, 1e-6):
        strict["quantize"]["gate"] = {"max_mean_kl_divergence": bound}
        write_text_atomic(tmp_path / "e.yaml", json.dumps(strict))
        said.append(CliRunner().invoke(cli, arguments, catch_exceptions=False).output)
    assert "quality gate PASS" in said[0]
    assert "reused" in said[1]
    assert "quality gate FAIL (mean KL divergence" in said[1]


def test_something_foreign_in_the_way_is_not_overwritten(shop: tuple[Experiment, Workshop]) -> None:
    """Files that this tool did not write are never replaced."""
    spec, where = shop
    folder = folder_of(spec, "none", where)
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("dear")
    with pytest.raises(InputError, match="not ours"):
        make(spec, "none", where)
    assert (folder / "mine.txt").read_text() == "dear"


def test_the_manifest_is_published_once(shop: tuple[Experiment, Workshop]) -> None:
    """Publishing the same checkpoint again leaves the run's record as it is."""
    spec, where = shop
    made = make(spec, "none", where)
    publish(made, spec, where.results)
    publish(made, spec, where.results)
    run = RunDir.of(where.results, spec, "none")
    assert Checkpoint.read(run.path).path == str(Path(made.path).resolve())
    assert not (run.path / "superseded").exists()


@given(st.integers(16, 256), st.lists(st.integers(1, 40).map(lambda k: k * 32), min_size=1, max_size=3))
def test_a_group_size_divides_every_width_and_is_the_largest_that_a_kernel_has(wanted: int, widths: list[int]) -> None:
    """Users get the closest group size below their wish that engines can run."""
    size = resolve_group_size(wanted, tuple(widths))
    assert size <= wanted
    assert size in GROUP_SIZES
    assert all(width % size == 0 for width in widths)
    assert not [k for k in GROUP_SIZES if size < k <= wanted and all(width % k == 0 for width in widths)]


def test_widths_that_no_kernels_group_divides_are_refused() -> None:
    """A model without any usable group size is rejected with its widths."""
    with pytest.raises(InputError, match=r"no group size up to 128 divides the widths \[40, 48\]"):
        resolve_group_size(128, (48, 40))


@pytest.mark.parametrize(
    ("wanted", "group", "said"), [(128, 64, "does not divide the widths [576, 1536]"), (96, 64, "no kernel has")]
)
def test_a_smaller_group_is_said_with_the_reason(wanted: int, group: int, said: str) -> None:
    """A group size other than the one asked for is noted, for schemes that have groups."""
    assert resolve_group_size(wanted, (576, 1536)) == group
    assert group_note("w4a16", wanted, group, (576, 1536)) == (f"group size {group} instead of {wanted}, which {said}",)
    assert group_note("w8a8", wanted, group, (576, 1536)) == group_note("w4a16", 64, 64, (576, 1536)) == ()


def test_the_widths_of_the_demo_model_resolve_to_64() -> None:
    """The demo model quantizes with the default settings."""
    assert resolve_group_size(128, (576, 1536, 576)) == 64


def test_each_scheme_has_inputs_of_its_own(shop: tuple[Experiment, Workshop]) -> None:
    """Schemes never share a checkpoint by accident."""
    spec, where = shop
    names = ("none", "w8a8", "gptq-int4", "gptq-int8", "w4a16")
    hashes = {name: expected_inputs(spec, name, where)["recipe"] for name in names}
    assert len(set(hashes.values())) == 5


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


def test_the_command_makes_then_reuses_and_says_so(shop: tuple[Experiment, Workshop], tmp_path: Path) -> None:
    """The second run reuses both checkpoints, repeats the notes and records that as an event."""
    spec, where = shop
    spec.write(tmp_path)
    arguments = ["run", str(tmp_path / "experiment.json"), "--results", str(where.results)]
    arguments += ["--checkpoints", str(where.checkpoints)]
    first = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    again = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert "gptq-int4" in first.output
    assert "reused" not in first.output
    assert again.output.count("reused") == 2
    for output in (first.output, again.output):
        assert output.count("note: group size 16 instead of 128, which does not divide the widths [48, 96]") == 1
    run = RunDir.of(where.results, spec, "gptq-int4")
    assert [event.state for event in run.events()] == ["started", "done", "reused"]


def test_a_scheme_that_the_experiment_does_not_name_is_refused(shop: tuple[Experiment, Workshop], tmp_path: Path) -> None:
    """`--scheme` accepts only the experiment's own schemes."""
    shop[0].write(tmp_path)
    with pytest.raises(InputError, match="not among its schemes"):
        CliRunner().invoke(cli, ["run", str(tmp_path / "experiment.json"), "--scheme", "w8a8"], catch_exceptions=False)
