"""`serving up` and `down`: what they refuse, pass on and take down again."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.serving.conftest import Up

pytestmark = pytest.mark.system


def test_what_only_the_supervisor_could_find_is_a_mistake_too(
    up: Callable[..., Up], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a port that was taken after `up` had looked."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = up(port=taken.getsockname()[1])
        monkeypatch.setattr("tokenhour.serving.preflight.choose_ports", lambda _, wanted: list(wanted))
        done = server.command("up", str(server.root / "experiment.json"))
    assert done.returncode == 2, done.stderr
    assert "is taken" in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "0 for a free one" in done.stderr


def test_interrupting_the_command_while_it_waits_takes_the_server_down(up: Callable[..., Up]) -> None:
    """Ctrl-C during `serving up` stops the server that is still starting, instead of leaving it behind."""
    server = up("silent")
    argv = [sys.executable, "-m", "tokenhour", "serving", "up", str(server.root / "experiment.json")]
    argv += ["--results", str(server.root / "results")]
    child = subprocess.Popen(argv, cwd=server.root, stderr=subprocess.PIPE, text=True)
    server.until(lambda s: s is not None and s.replicas and s.replicas[0].pid)
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=90)[1]
    assert child.returncode == 130, said
    server.until(lambda s: s.state == "stopped")


def test_a_scheme_that_is_misspelt_is_not_nothing_to_stop(up: Callable[..., Up]) -> None:
    """A mistyped scheme is rejected; otherwise a server would keep running, or the wrong one would stop."""
    server = up()
    file = str(server.root / "experiment.json")
    for words in (("down", file), ("logs", file)):
        done = server.command(*words, "--scheme", "w8a6")
        assert done.returncode == 2
        assert "did you mean w8a8" in done.stderr
    done = server.command("down", "--scheme", "w8a8")
    assert done.returncode == 2, "or another server would be stopped"
    assert "a scheme is one of an experiment's" in done.stderr
    assert server.command("down", file, "--scheme", "w8a8").returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("down", "nobody"), "no server nobody"),
        (("logs", "nobody"), "no server nobody"),
        (("logs",), "no server has run here yet"),
        (("nonsense",), "no command 'nonsense'"),
        (("up", "absent.yaml"), "no such file"),
    ],
)
def test_mistakes_are_one_message_and_exit_2(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """Mistakes on the command line show one message and no traceback, so scripts can rely on the exit code."""
    argv = [sys.executable, "-m", "tokenhour", "serving", *words]
    argv += ["--results", str(tmp_path)] if words != ("nonsense",) else []
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
