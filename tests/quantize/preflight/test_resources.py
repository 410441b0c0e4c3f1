"""Disk, memory and device memory are looked at before anything is written."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.quantize.desk import Desk
from tests.quantize.hub import hub
from tests.quantize.tiny import tiny_model
from tokenhour.contracts.config.model_quantize import QuantizeSpec
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.quantize.preflight.resources import (
    DecoderShape,
    decoder_shape,
    device_bytes,
    preflight_device,
    preflight_download,
)
from tokenhour.quantize.source.hub import Download

pytestmark = pytest.mark.system

# A disk with so many free bytes.
SMALL_DISK = """
import shutil, sys
from tokenhour.contracts.errors import exit_code_of
from tokenhour.quantize.cli import cli
shutil.disk_usage = lambda _: type("Usage", (), {"free": int(sys.argv[1])})
print(exit_code_of(lambda: cli.main(sys.argv[2:], standalone_mode=False)))
"""
SMOL = DecoderShape(hidden=576, intermediate=1536, heads_width=576, layers=30, vocabulary=49152)


def test_a_model_that_does_not_fit_on_the_disk_is_not_fetched(desk: Desk) -> None:
    """Room for the weights once, not for what the hub sends and its copy in checkpoints."""
    free = round(1.5 * (desk.model / "model.safetensors").stat().st_size)
    desk.data["model"]["source"] = "acme/tiny"
    cache = desk.folder / "hf"
    with hub(desk.model) as endpoint:
        settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_TOKEN": "", "HF_HUB_OFFLINE": "0"}
        argv = [sys.executable, "-c", SMALL_DISK, str(free), *desk.arguments()]
        done = subprocess.run(argv, env={**os.environ, **settings}, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.split() == ["2"], done.stderr
    assert "of disk are needed to fetch the model and to copy its weights" in done.stderr
    assert f"{cache / 'hub'}: " in done.stderr
    assert "HF_HOME" in done.stderr
    assert not list(cache.rglob("*.safetensors"))
    assert desk.left() == []


@pytest.mark.parametrize(
    ("missing", "weights", "free", "fits"),
    [(60, 50, 109, False), (60, 50, 110, True), (0, 50, 49, False), (0, 50, 50, True)],
)
def test_what_is_in_the_cache_needs_room_only_for_its_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: int, weights: int, free: int, fits: bool
) -> None:
    """The check of disk space counts download and copy, and no byte twice."""
    monkeypatch.setattr(
        "tokenhour.quantize.preflight.resources.shutil.disk_usage", lambda _: type("Usage", (), {"free": free})
    )
    found = Download(tmp_path / "not" / "there", missing, weights)
    with contextlib.nullcontext() if fits else pytest.raises(InputError, match="of disk are needed to fetch"):
        preflight_download(tmp_path / "checkpoints", found)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [("available_memory_bytes", lambda: 10**6, "of memory are needed"), ("shutil.disk_usage", None, "of disk are needed")],
)
def test_disk_and_memory_are_looked_at_before_anything_is_written(
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    place: str,
    value: Callable[..., Any] | None,
    said: str,
) -> None:
    """Too little disk or memory is reported at once instead of hours later."""
    full = type("Usage", (), {"free": 10})
    monkeypatch.setattr(f"tokenhour.quantize.preflight.resources.{place}", value or (lambda _: full))
    assert desk.run() == 2
    shown = capfd.readouterr().err
    assert said in shown
    assert "remedy:" in shown
    assert desk.left() == []


def test_device_memory_counts_one_layer_the_embeddings_and_all_windows() -> None:
    """GPU memory for calibration is estimated from the model's shape, and only GPUs are judged."""
    spec = QuantizeSpec()
    needed = device_bytes(SMOL, 269_000_000, spec)
    assert needed > 2 * 2 * SMOL.vocabulary * SMOL.hidden
    longer = QuantizeSpec.model_validate({"calibration": {"windows": 64}})
    assert device_bytes(SMOL, 269_000_000, longer) - needed == 2 * 2 * 32 * 512 * 576
    small = Accelerator(kind="cuda", name="Small GPU", count=1, memory_bytes=needed - 1)
    with pytest.raises(InputError, match="GPU memory are needed to calibrate, Small GPU"):
        preflight_device(SMOL, 269_000_000, spec, small)
    preflight_device(SMOL, 269_000_000, spec, small.model_copy(update={"memory_bytes": needed}))
    preflight_device(SMOL, 269_000_000, spec, small.model_copy(update={"kind": "cpu"}))


def test_learning_takes_more_device_memory_than_gptq_and_its_refusal_names_that() -> None:
    """A GPU too small for AutoRound may still do with GPTQ, and the remedy says so."""
    spec, weights = QuantizeSpec(), 16_060_000_000
    shape = DecoderShape(hidden=4096, intermediate=14336, heads_width=4096, layers=32, vocabulary=128256)
    needed = device_bytes(shape, weights, spec, learned=True)
    assert device_bytes(shape, weights, spec) < needed < 16e9
    small = Accelerator(kind="cuda", name="Small GPU", count=1, memory_bytes=needed - 1)
    with pytest.raises(InputError) as caught:
        preflight_device(shape, weights, spec, small, learned=True)
    assert "w4a16_method: gptq" in caught.value.remedy


def test_a_shape_is_read_from_a_config_and_one_within_a_larger_model(tmp_path: Path) -> None:
    """Models that wrap a language model are measured by its part."""
    folder = tiny_model(tmp_path / "m")
    found = decoder_shape(folder)
    assert (found.hidden, found.intermediate, found.heads_width, found.layers) == (48, 96, 48, 2)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"text_config": config | {"head_dim": 16}}))
    assert decoder_shape(folder).heads_width == 64
