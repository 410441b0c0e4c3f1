"""Calibration and evaluation text: never the same passage, always as many windows as were asked for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tokenhour.contracts.config.model_quantize import CalibrationSpec, EvaluationSpec, TextSpec
from tokenhour.contracts.errors import InputError
from tokenhour.quantize.data.text import Windows, bundled_text, calibration_windows, evaluation_windows, read_text, split


class Characters:
    """A tokenizer of one token a character, with a visible chat template."""

    def encode(self, text: str) -> list[int]:
        """Return a code point a character."""
        return [ord(c) for c in text]

    def chat(self, messages: list[dict[str, str]]) -> str:
        """Write each turn behind its role."""
        return "".join(f"<{m['role']}>{m['content']}" for m in messages)


TOKENS = Characters()


def text_file(tmp_path: Path, paragraphs: int = 40) -> str:
    """Write paragraphs that all differ, and return the file's path."""
    file = tmp_path / "mine.txt"
    file.write_text("\n\n".join(f"paragraph {n} " + f"word{n} " * 20 for n in range(paragraphs)))
    return str(file)


def evaluation(source: str, windows: int = 4, tokens: int = 80) -> Windows:
    """Cut evaluation windows."""
    return evaluation_windows(EvaluationSpec(source=source, windows=windows, window_tokens=tokens), TOKENS)


def calibration(
    source: str, windows: int = 8, seed: int = 3, held_out: NDArray[np.int64] | None = None, tokens: int = 80
) -> Windows:
    """Cut calibration windows beside the evaluation's."""
    spec = CalibrationSpec(source=source, windows=windows, window_tokens=tokens)
    held_out = evaluation(source).ids if held_out is None else held_out
    return calibration_windows(spec, seed, held_out, TOKENS)


@given(st.lists(st.text(alphabet="abc \n", min_size=1, max_size=30), min_size=1, max_size=30).map("\n\n".join))
def test_the_two_parts_make_the_whole_and_share_nothing(text: str) -> None:
    """A quality figure on calibration text would be too good."""
    assert split(text, "calibration") + split(text, "evaluation") == text


def test_the_bundled_text_is_long_enough_for_the_defaults() -> None:
    """The default settings work without any text of the user's."""
    assert len(bundled_text()) > 400_000
    assert len(split(bundled_text(), "evaluation")) > 130_000


def test_calibration_windows_are_seeded_and_distinct(tmp_path: Path) -> None:
    """The same seed gives the same checkpoint, and no window counts twice."""
    source = text_file(tmp_path)
    first = calibration(source)
    assert np.array_equal(first.ids, calibration(source).ids)
    assert not np.array_equal(first.ids, calibration(source, seed=4).ids)
    assert len({tuple(row) for row in first.ids.tolist()}) == 8


def test_no_calibration_window_shares_a_passage_with_the_evaluation_text() -> None:
    """Documents repeat themselves: the bundled text holds whole sections twice."""
    held_out = evaluation("bundled", windows=24, tokens=512)
    found = calibration("bundled", windows=128, held_out=held_out.ids, tokens=512)
    passages = {row[i : i + 64].tobytes() for row in held_out.ids for i in range(512 - 63)}
    assert not any(row[i : i + 64].tobytes() in passages for row in found.ids for i in range(512 - 63))


def test_a_copy_of_the_evaluation_text_is_passed_over_and_counted(tmp_path: Path) -> None:
    """Calibration skips passages of the evaluation, and the record says how many."""
    source = text_file(tmp_path)
    copied = tmp_path / "copied.txt"
    original = (tmp_path / "mine.txt").read_text()
    copied.write_text(split(original, "evaluation")[:1500] + "\n\n" + split(original, "calibration") * 2)
    everything = evaluation(source, windows=20, tokens=80)
    found = calibration(str(copied), windows=20, held_out=everything.ids)
    assert found.record.passed_over > 0
    with pytest.raises(InputError, match="share text with the evaluation"):
        calibration(str(copied), windows=10_000, held_out=everything.ids)


@pytest.mark.parametrize(("held_out_tokens", "tokens"), [(32, 80), (80, 32), (128, 80)])
def test_a_copy_is_found_whatever_the_two_lengths_of_windows_are(tmp_path: Path, held_out_tokens: int, tokens: int) -> None:
    """Different window lengths do not hide a shared passage."""
    everything = evaluation(text_file(tmp_path), windows=1600 // held_out_tokens, tokens=held_out_tokens)
    copied = tmp_path / "copied.txt"
    copied.write_text("".join(map(chr, everything.ids.ravel())) * 3)
    with pytest.raises(InputError, match="share text with the evaluation"):
        calibration(str(copied), windows=20, held_out=everything.ids, tokens=tokens)


@pytest.mark.parametrize("mark", ["\n", " ", "x"])
def test_a_last_third_without_blank_lines_is_held_out_all_the_same(mark: str) -> None:
    """Text without paragraphs is still split, at a line or word where there is one."""
    text = "first\n\nsecond\n\n" + mark.join(["words"] * 300) + "\n\n"
    held_out = split(text, "evaluation")
    assert len(held_out) == pytest.approx(len(text) / 3, abs=10)
    assert split(text, "calibration") + held_out == text
    if mark != "x":
        assert held_out.startswith(mark)


def test_the_record_names_text_licence_and_hash(tmp_path: Path) -> None:
    """A manifest tells which text judged the model, and under which license it may be used."""
    found = evaluation("bundled", 2, 128).record
    assert (found.windows, found.window_tokens, found.license) == (2, 128, "PSF-2.0")
    mine = evaluation(text_file(tmp_path), 2, 128).record
    assert mine.license == "the user's own"
    assert mine.sha256 != found.sha256


@pytest.mark.parametrize("cut", [evaluation, calibration])
def test_a_text_that_is_too_short_is_refused_with_figures(tmp_path: Path, cut: Callable[..., Windows]) -> None:
    """The message says how many windows fit and how many were asked for."""
    with pytest.raises(InputError, match=r"room for \d+ windows of 80.*, 999 are asked for"):
        cut(text_file(tmp_path), windows=999)
    (tmp_path / "short.txt").write_text("short")
    with pytest.raises(InputError, match="room for 0 windows"):
        cut(str(tmp_path / "short.txt"), windows=1)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "one"}, "one"),
        (
            {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]},
            "<user>hi<assistant>yes",
        ),
        ({"prompt": "hi"}, "<user>hi"),
        ({"prompt": "hi", "completion": "yes"}, "<user>hi<assistant>yes"),
    ],
)
def test_a_row_is_text_or_a_conversation(tmp_path: Path, row: dict[str, Any], expected: str) -> None:
    """JSON lines may hold text, messages, or a prompt with or without its completion."""
    file = tmp_path / "prompts.jsonl"
    file.write_text(json.dumps(row) + "\n\n" + json.dumps(row) + "\n")
    assert read_text(TextSpec(source=str(file)), TOKENS) == f"{expected}\n\n{expected}"


def test_plain_text_may_stand_in_another_field(tmp_path: Path) -> None:
    """The `field` setting reads other layouts, and goes before the known names."""
    file = tmp_path / "x.jsonl"
    file.write_text('{"body": "words", "prompt": "no"}')
    assert read_text(TextSpec(source=str(file), field="body"), TOKENS) == "words"


def test_a_line_of_json_may_hold_other_ends_of_lines_as_they_are(tmp_path: Path) -> None:
    """Unicode line separators inside a text do not split its row."""
    file = tmp_path / "x.jsonl"
    rows = [f"a{mark}b" for mark in ("\u2028", "\u2029", "\u0085", "\x7f")]
    file.write_text("".join(json.dumps({"text": row}, ensure_ascii=False) + "\r\n" for row in rows), encoding="utf-8")
    assert read_text(TextSpec(source=str(file)), TOKENS) == "\n\n".join(rows)


@pytest.mark.parametrize("line", ["not json", '{"words": "x"}', "[1]", '{"messages": [1]}', '{"text": 3}'])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    """The message gives file and line number of a faulty row."""
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"text": "good"}\n' + line + "\n")
    with pytest.raises(InputError) as caught:
        read_text(TextSpec(source=str(file)), TOKENS)
    assert caught.value.where == f"{file}:2"
    assert caught.value.remedy


def test_a_missing_or_binary_text_is_refused(tmp_path: Path) -> None:
    """Unreadable files are reported without a traceback."""
    with pytest.raises(InputError, match="cannot read the text"):
        read_text(TextSpec(source=str(tmp_path / "absent.txt")), TOKENS)
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(InputError, match="cannot read the text"):
        read_text(TextSpec(source=str(tmp_path / "x.txt")), TOKENS)
