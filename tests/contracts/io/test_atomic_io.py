"""Writing is atomic, and a full disk says so."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.io.atomic_io import (
    atomic_folder,
    canonical_json,
    disk_errors,
    make_folder,
    sha256_file,
    sha256_of,
    write_bytes_atomic,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON))
def test_equal_values_hash_equal_whatever_their_key_order(value: dict[str, Any]) -> None:
    """Canonical JSON loses nothing and ignores key order, so reordering a file makes no stage stale."""
    reordered = dict(reversed(list(value.items())))
    assert sha256_of(value) == sha256_of(reordered)
    assert json.loads(canonical_json(value)) == value


def test_a_written_file_is_whole_and_leaves_no_part_behind(tmp_path: Path) -> None:
    """Writing makes missing folders, replaces the old content and leaves no temporary file."""
    target = tmp_path / "deep" / "file.json"
    write_bytes_atomic(target, b"one")
    write_bytes_atomic(target, b"two")
    assert target.read_bytes() == b"two"
    assert os.listdir(target.parent) == ["file.json"]


def test_a_record_is_not_overwritten(tmp_path: Path) -> None:
    """A second write without overwrite fails, and the first content survives."""
    write_bytes_atomic(tmp_path / "r.json", b"one", overwrite=False)
    with pytest.raises(FileExistsError):
        write_bytes_atomic(tmp_path / "r.json", b"two", overwrite=False)
    assert (tmp_path / "r.json").read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["r.json"]


def test_a_folder_appears_only_when_its_block_ends_well(tmp_path: Path) -> None:
    """A folder whose making failed never exists under its final name, and the next attempt succeeds."""
    with pytest.raises(IsADirectoryError), atomic_folder(tmp_path / "model") as part:
        part.write_text("a folder cannot be written to")
    assert os.listdir(tmp_path) == []
    with atomic_folder(tmp_path / "model") as part:
        (part / "weights").write_text("whole")
    assert (tmp_path / "model" / "weights").read_text() == "whole"


def test_a_killed_writer_leaves_nothing_that_looks_finished_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    """Even SIGKILL cannot leave a half-written model that a later stage would take for whole."""
    script = (
        "import sys, time; from pathlib import Path; from tokenhour.contracts.io.atomic_io import atomic_folder\n"
        "with atomic_folder(Path(sys.argv[1])) as part:\n"
        "    (part / 'weights').write_text('half'); print('go', flush=True); time.sleep(60)\n"
    )
    target = tmp_path / "model"
    with subprocess.Popen([sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"go\n"
        child.send_signal(signal.SIGKILL)
    assert not target.exists()
    assert len(list(tmp_path.iterdir())) == 1
    with atomic_folder(target) as part:
        (part / "weights").write_text("whole")
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk_is_one_message_and_keeps_nothing(tmp_path: Path) -> None:
    """Without space the user reads one message, and no partial file takes up what is left."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount here: {mounted.stderr.strip()}")
    try:
        with pytest.raises(RunFailedError, match="no space left"):
            write_bytes_atomic(tmp_path / "big", b"x" * 1_000_000)
        with pytest.raises(RunFailedError, match="no space left"), atomic_folder(tmp_path / "model") as part:
            (part / "weights").write_bytes(b"x" * 1_000_000)
        assert os.listdir(tmp_path) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_read_only_place_is_one_message(tmp_path: Path) -> None:
    """A read-only file system fails the run with a message instead of a traceback."""
    with pytest.raises(RunFailedError, match="cannot write here"), disk_errors(tmp_path):
        raise OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize("place", ["file", "file/within/it"])
def test_a_file_where_a_folder_is_needed_is_one_message(tmp_path: Path, place: str) -> None:
    """The message names the file that is in the way, at any depth."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a file stands where a folder is needed") as caught:
        make_folder(tmp_path / place)
    assert caught.value.where == str(tmp_path / place)


def test_other_errors_pass_through(tmp_path: Path) -> None:
    """Errors that are no matter of the disk keep their type, so that mistakes in the code stay visible."""
    with pytest.raises(IsADirectoryError), disk_errors(tmp_path):
        raise IsADirectoryError(errno.EISDIR, "Is a directory")


def test_a_files_hash_is_that_of_its_bytes(tmp_path: Path) -> None:
    """The hash is plain SHA-256, so that anybody can check it with sha256sum."""
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256_file(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
