"""A checkpoint is made whole or not at all, reused only while its inputs and files are the same."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.quantize.tiny import TEXT
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.io.atomic_io import write_text_atomic
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.machine.run_folder import RunDir
from tokenhour.quantize.build import current, make, publish
from tokenhour.quantize.cache_key import Workshop, folder_of, log_of, packed_of

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
