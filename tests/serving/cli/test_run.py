"""`serving run` as a person starts and ends it."""

import json
import signal
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.records import server as server_record
from tests.serving.conftest import house, left_over, run_in
from tokenhour.contracts.records.server import Server
from tokenhour.serving.cli.run import announce
from tokenhour.serving.state import read_state

pytestmark = pytest.mark.system


@pytest.mark.parametrize("stopper", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_server_that_is_told_to_stop_has_done_its_work(tmp_path: Path, stopper: signal.Signals) -> None:
    """It was asked to serve until then: exit 0, and what runs may end."""
    _, run = house(tmp_path, "drains", operations={"drain_s": 10})
    child = run_in(tmp_path)
    # The state is written a moment before it is announced; the signal is meant for a server that serves.
    line = child.stderr.readline()
    while "Ctrl-C stops it" not in line:
        line = child.stderr.readline()
    body = json.dumps({"stream": True, "max_tokens": 40, "interval_s": 0.02}).encode()
    with urllib.request.urlopen(f"{Server.read(run.path).base_url}/v1/completions", body, timeout=20) as reply:
        assert reply.read(6) == b"data: "
        child.send_signal(stopper)
        assert reply.read().endswith(b"data: [DONE]\n\n")
    said = child.communicate(timeout=20)[1]
    assert (child.returncode, "stopping" in said, "Traceback" in said) == (0, True, False), said
    assert run.status()["serving"].state == "done"
    assert read_state(run.path).state == "stopped"
    assert left_over(tmp_path) == []


def test_interrupting_the_command_beside_a_server_is_an_interruption(tmp_path: Path) -> None:
    """Ctrl-C marks the stage as interrupted and says that the same command resumes it."""
    _, run = house(tmp_path)
    child = run_in(tmp_path, sys.executable, "-c", "import time; time.sleep(60)")
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=30)[1]
    assert child.returncode == 128 + signal.SIGINT
    assert "run the same command again" in said
    assert run.status()["serving"].state == "interrupted"
    assert left_over(tmp_path) == []


def test_a_ready_server_is_announced_with_its_checkpoints_quality_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever starts a server sees that its checkpoint failed the quality gate, and why."""
    why = ("mean KL divergence 0.2 is above 0.05",)
    announce(server_record("http://127.0.0.1:1", "/m", quality_gate="FAIL", quality_reasons=why))
    assert "none: quality gate FAIL (mean KL divergence 0.2 is above 0.05)" in capsys.readouterr().err
    announce(server_record("http://127.0.0.1:1", "/m"))
    assert "quality gate" not in capsys.readouterr().err
