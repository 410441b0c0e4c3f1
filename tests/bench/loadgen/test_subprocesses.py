"""The talk with the processes of a run: what the generator says, what it can no longer hear, and how a run is ended."""

import contextlib
import signal
import subprocess
import sys

import pytest

from tokenhour.bench.loadgen.subprocesses import Crew, said_done, sigterm_interrupts, tell
from tokenhour.contracts.errors import RunFailedError


def saying(text: str) -> subprocess.Popen[bytes]:
    """Start a generator that says one thing and ends with its input."""
    script = "import sys; sys.stdout.write(sys.argv[1]); sys.stdout.flush(); sys.stdin.read()"
    words = [sys.executable, "-S", "-c", script, text]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.mark.parametrize(("text", "timeout_s", "done"), [('{"done": 3}\n', 30.0, True), ("", 0.0, False)])
def test_a_probe_is_done_when_the_generator_says_so(text: str, timeout_s: float, done: bool) -> None:
    """Silence is not taken for an end."""
    with saying(text) as generator:
        assert said_done(Crew(generator), timeout_s, "here") is done
        tell(generator, {"cancel": True})
        generator.communicate()


def test_what_went_wrong_in_the_generator_ends_the_run_with_its_words() -> None:
    """The reason is the generator's own."""
    with saying('{"failed": "no route"}\n') as generator:
        with pytest.raises(RunFailedError, match="no route"):
            said_done(Crew(generator), 30.0, "here")
        generator.communicate()


def test_a_process_that_has_ended_is_told_from_one_that_is_silent() -> None:
    """Neither what it says nor what it is told is waited for."""
    with saying("") as generator, saying("") as hand:
        generator.kill()
        generator.wait()
        with pytest.raises(RunFailedError, match="the load generator ended"):
            said_done(Crew(generator), 30.0, "here")
        with pytest.raises(RunFailedError, match="a load worker ended"):
            said_done(Crew(hand, (generator,)), 30.0, "here")
        with pytest.raises(RunFailedError, match="the load generator ended"):
            tell(generator, {"cancel": True})
        with contextlib.suppress(BrokenPipeError):
            generator.stdin.close()  # with what could not be told
        hand.communicate()


def test_sigterm_is_ctrl_c_inside_and_itself_again_afterwards() -> None:
    """What was recorded is kept whichever of the two ends a run."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_interrupts():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
