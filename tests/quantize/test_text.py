"""Calibration and evaluation text: never the same tokens, always as many as were asked for."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InputError
from quantize.text import BUNDLED, bundled_text, read_text, split, windows


def characters(text):
    return [ord(c) for c in text]


def text_file(tmp_path, paragraphs=40):
    file = tmp_path / "mine.txt"
    file.write_text("\n\n".join(f"paragraph {n} " + "word " * 20 for n in range(paragraphs)))
    return str(file)


@given(st.lists(st.text(alphabet="abc \n", min_size=1, max_size=30), min_size=1, max_size=30).map("\n\n".join))
def test_the_two_parts_make_the_whole_and_share_nothing(text):
    assert split(text, "calibration") + split(text, "evaluation") == text


def test_the_bundled_text_is_long_enough_for_the_defaults():
    assert len(bundled_text()) > 400_000
    assert len(split(bundled_text(), "evaluation")) > 130_000


def test_calibration_windows_are_seeded_distinct_and_from_their_own_part(tmp_path):
    source = text_file(tmp_path)
    first = windows(source, "calibration", 8, 64, 3, characters)
    assert np.array_equal(first.ids, windows(source, "calibration", 8, 64, 3, characters).ids)
    assert not np.array_equal(first.ids, windows(source, "calibration", 8, 64, 4, characters).ids)
    assert len({tuple(row) for row in first.ids.tolist()}) == 8
    held_out = "".join(map(chr, windows(source, "evaluation", 4, 64, None, characters).ids.ravel()))
    for row in first.ids:
        assert "".join(map(chr, row)) not in held_out


def test_the_record_names_text_licence_and_hash(tmp_path):
    found = windows(BUNDLED, "evaluation", 2, 128, None, characters).record
    assert (found.windows, found.window_tokens, found.license) == (2, 128, "PSF-2.0")
    mine = windows(text_file(tmp_path), "evaluation", 2, 128, None, characters).record
    assert mine.license == "the user's own"
    assert mine.sha256 != found.sha256


def test_a_text_that_is_too_short_is_refused_with_figures(tmp_path):
    with pytest.raises(InputError, match=r"room for \d+ windows of 64, 999 are asked for"):
        windows(text_file(tmp_path), "calibration", 999, 64, 0, characters)


def test_jsonl_lines_become_paragraphs(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(json.dumps({"text": t}) for t in ("one", "two")) + "\n\n")
    assert read_text(str(file)) == "one\n\ntwo"


@pytest.mark.parametrize("line", ["not json", '{"prompt": "x"}', "[1]"])
def test_a_bad_jsonl_line_is_named(tmp_path, line):
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"text": "good"}\n' + line + "\n")
    with pytest.raises(InputError, match="field `text`") as caught:
        read_text(str(file))
    assert caught.value.where == f"{file}:2"


def test_a_missing_or_binary_text_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read the text"):
        read_text(str(tmp_path / "absent.txt"))
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(InputError, match="cannot read the text"):
        read_text(str(tmp_path / "x.txt"))
