"""The engine's log: bounded, without secrets, readable while it grows."""

import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenhour.serving.engine.log_files import (
    RotatingLog,
    follow,
    identity_of,
    last_lines,
    numbered,
    read_all,
    secrets_in,
    set_aside,
)


def test_a_full_log_becomes_the_first_of_the_older_ones(tmp_path: Path) -> None:
    """Logs rotate at their limit, keep the wanted number, and reading the tail crosses the border."""
    file = tmp_path / "server.log"
    log = RotatingLog(file, 100, 2)
    for number in range(20):
        log.feed(f"line {number:02d} {'x' * 30}\n".encode())
    log.close()
    assert file.stat().st_size <= 100
    assert sorted(p.name for p in tmp_path.iterdir()) == ["server.log", "server.log.1", "server.log.2"]
    assert last_lines(file, 3)[-1].startswith("line 19")
    assert len(last_lines(file, 4)) == 4, "it looks into the older log"


def test_nothing_older_is_kept_when_none_is_wanted(tmp_path: Path) -> None:
    """With `keep: 0` a full log starts over instead of leaving older files."""
    log = RotatingLog(tmp_path / "l", 10, 0)
    for _ in range(5):
        log.feed(b"12345678\n")
    log.close()
    assert [p.name for p in tmp_path.iterdir()] == ["l"]
    assert (tmp_path / "l").read_bytes() == b"12345678\n"


def test_whatever_is_named_like_a_secret_is_one() -> None:
    """Values of variables that look like keys, tokens or passwords are masked in logs; ordinary ones are not."""
    environment = {
        "MY_KEY": "short", "HF_TOKEN": "hf_0123456789", "DB_PASSWORD": "passw0rd", "AWS_SECRET": "1234567",
        "A_SECRET": "12345678", "TOKENIZERS": "0123456789", "KEYBOARD": "0123456789", "EMPTY_KEY": "",
    }  # fmt: skip
    assert set(secrets_in(environment, ["MY_KEY", "ABSENT", "EMPTY_KEY"])) == {
        b"short",
        b"hf_0123456789",
        b"passw0rd",
        b"12345678",
    }


def test_an_earlier_engines_log_is_set_aside_and_is_not_this_ones(tmp_path: Path) -> None:
    """A crash is diagnosed from its own log, not from that of an earlier engine."""
    file = tmp_path / "server.log"
    set_aside(file, 2)
    assert list(tmp_path.iterdir()) == [], "there was none"
    for text in ("first\n", "", "second\n", "third\n"):
        set_aside(file, 2)
        file.write_text(text)
    assert [numbered(file, number).read_text() for number in (1, 2)] == ["second\n", "first\n"], (
        "an empty one pushes none out"
    )
    assert read_all(file) == "second\nthird\n"
    assert read_all(file, without=identity_of(numbered(file, 1))) == "third\n"


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20))
@settings(deadline=None, max_examples=50)
def test_a_secret_is_hidden_however_the_output_is_cut(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    """Secrets are masked even when the output arrives in pieces that split them."""
    file = tmp_path_factory.mktemp("log") / "l"
    text = b"before sk-very-secret-key after\nsk-very-secret-key\nlast sk-very-secret-key"
    log = RotatingLog(file, 10**6, 1, (b"sk-very-secret-key", b""))
    at = 0
    for cut in [*cuts, len(text)]:
        log.feed(text[at : at + cut])
        at += cut
    log.close()
    assert file.read_bytes() == b"before *** after\n***\nlast ***"


def test_following_goes_on_through_a_rotation(tmp_path: Path) -> None:
    """`serving logs --follow` loses no line when the log rotates."""
    file = tmp_path / "server.log"
    log = RotatingLog(file, 60, 3)
    log.feed(b"old\n")
    seen: list[str] = []

    def read() -> None:
        for line in follow(file):
            seen.append(line)
            if line == "end":
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    time.sleep(0.3)
    for number in range(4):
        log.feed(f"new {number} {'x' * 20}\n".encode())
        time.sleep(0.25)
    log.feed(b"end\n")
    log.close()
    reader.join(5)
    assert not reader.is_alive()
    assert [line.split(" x")[0] for line in seen] == ["new 0", "new 1", "new 2", "new 3", "end"]


def test_a_log_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    """Reading the log of a server that never started is not an error."""
    assert last_lines(tmp_path / "none", 5) == []
    assert numbered(tmp_path / "server.log", 2).name == "server.log.2"


def test_a_full_disk_does_not_stop_the_engine(tmp_path: Path) -> None:
    """A log that cannot be written is dropped; the engine keeps serving."""
    (tmp_path / "l").symlink_to("/dev/full")
    log = RotatingLog(tmp_path / "l", 100, 1)
    log.feed(b"lost\n")
    log.close()
    assert last_lines(tmp_path / "l.1", 1) == []
