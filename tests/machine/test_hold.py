"""Settings are held for as long as somebody wants them, and then are what they were."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from tokenhour.machine.hold import set_to


def holding(**settings: str) -> subprocess.Popen[str]:
    """Start a process that holds these settings, by the paths of their files."""
    argv = [sys.executable, "-m", "tokenhour.machine.hold", json.dumps(settings)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_the_last_word_of_a_file_is_what_was_set(tmp_path: Path) -> None:
    """/proc/PID/autogroup says more than its value, and takes the value alone."""
    (tmp_path / "autogroup").write_text("/autogroup-17 nice 3\n")
    assert set_to(tmp_path / "autogroup", "-5") == "3"
    assert (tmp_path / "autogroup").read_text() == "-5"


def test_settings_are_held_through_signals_and_set_back_when_nobody_wants_them(tmp_path: Path) -> None:
    """It ends with its standard input, and not by a SIGTERM that would leave the settings behind."""
    file = tmp_path / "weight"
    file.write_text("100\n")
    with holding(**{str(file): "500"}) as child:
        assert child.stdout is not None
        assert json.loads(child.stdout.readline()) == {"held": True}
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            child.send_signal(number)
        assert file.read_text() == "500"
        child.communicate(timeout=20)
    assert child.returncode == 0
    assert file.read_text() == "100"


def test_a_setting_that_cannot_be_written_is_named_and_the_others_are_set_back(tmp_path: Path) -> None:
    """Half of what was wanted is not held."""
    file = tmp_path / "weight"
    file.write_text("100\n")
    with holding(**{str(file): "500", str(tmp_path / "absent"): "1"}) as child:
        said = child.communicate(timeout=20)[0]
    assert json.loads(said) == {"failed": f"{tmp_path / 'absent'}: No such file or directory"}
    assert file.read_text() == "100"
