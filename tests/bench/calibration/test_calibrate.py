"""The certificate: times against the reference server's truth, and what counts as followed."""

from pathlib import Path

import numpy as np
import pytest

from tests.bench.conftest import keep_certificate
from tests.bench.rows import row
from tokenhour.bench.calibration import calibrate, reference_server
from tokenhour.bench.calibration.calibrate import Trial, accuracy, busy_share, certified, climb, errors, level
from tokenhour.bench.calibration.reference_server import Truth
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.standalone.generator_certificate import Level

WINDOW = (0, 1_000_000_000)
TRIAL = Trial(1, 0.1, 0.01, 5, 1.0)


def truth(received: int = 0, ttft_ns: int = 100_000_000, gap_ns: int = 10_000_000, tokens: int = 5) -> Truth:
    """Return what a reference server says of a request that it answered on a regular schedule."""
    sent = np.arange(tokens) * gap_ns + ttft_ns
    return Truth(200, tokens, received, received + int(sent[0]), received + int(sent[-1]), sent)


def test_errors_are_the_generators_times_less_the_servers() -> None:
    """The generator's error is measured against the server's own times, for first tokens and gaps apart."""
    one = row(0.0, ttft=0.103)
    ttft, gaps = errors([one], {one.request_id: truth()})
    assert ttft == pytest.approx([0.003])
    assert gaps == pytest.approx([0, 0, 0, 0], abs=1e-9)


def test_failed_and_unknown_requests_are_left_out() -> None:
    """Only requests that both sides know as successful tell anything of the generator's accuracy."""
    good, failed, unknown = row(0.0), row(1.0, outcome="timeout"), row(2.0)
    ttft, _ = errors([good, failed, unknown], {r.request_id: truth() for r in (good, failed)})
    assert len(ttft) == 1


def test_accuracy_is_that_of_the_light_load() -> None:
    """The certificate states mean and p99 errors of a load that does not strain the generator."""
    rows = [row(float(k), ttft=0.1 + 0.001 * (k == 0)) for k in range(100)]
    found = accuracy(16, rows, {r.request_id: truth() for r in rows})
    assert found.ttft_error_mean_s == pytest.approx(1e-5, rel=0.01)
    assert found.interchunk_error_p99_s < 1e-9


@pytest.mark.parametrize(
    ("ttft", "busy_ns", "gap_ns", "followed", "on_time"),
    [
        (0.105, 960_000_000, 10_000_000, True, True),
        (0.115, 960_000_000, 10_000_000, False, True),
        (0.105, 900_000_000, 10_000_000, False, True),
        (0.105, 960_000_000, 12_000_000, False, False),
    ],
    ids=["all right", "times wrong", "streams idle", "server late"],
)
def test_a_level_is_followed_when_times_are_right_and_streams_busy_and_the_server_on_time(
    ttft: float, busy_ns: int, gap_ns: int, followed: bool, on_time: bool
) -> None:
    """A level counts only if generator and server both kept up; a late server is told apart."""
    one = row(0.0, ttft=ttft)
    known = truth(gap_ns=gap_ns)
    other = Truth(200, 1, 0, 0, busy_ns - (known.last_ns - known.received_ns), np.array([0]))
    found = level(TRIAL, [one], {one.request_id: known, "other": other}, WINDOW, 1.0)
    assert (found.followed, found.server_on_time) == (followed, on_time)


def test_only_what_lies_inside_the_window_counts_as_busy() -> None:
    """A stream that began before the window adds just its part inside."""
    long = Truth(200, 1, -500_000_000, 0, 500_000_000, np.array([0]))
    assert busy_share({"a": long}, 1, WINDOW) == pytest.approx(0.5)


def test_a_kept_certificate_is_used_again_and_says_so(tmp_path: Path) -> None:
    """A run does not wait for a calibration that this machine has already made."""
    keep_certificate(tmp_path, ceiling_chunks_per_s=1234.0)
    found, said = certified(tmp_path)
    assert found.ceiling_chunks_per_s == 1234
    assert "reused" in said


def test_a_machine_that_stood_still_gives_no_certificate_and_a_clear_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing came back in time: that is no measurement, and no traceback."""
    with pytest.raises(RunFailedError, match="no answer of the reference server came back in time"):
        accuracy(16, [row(0.0, outcome="timeout")], {})
    monkeypatch.setattr("tokenhour.bench.calibration.calibrate.calibrate", lambda _workers: accuracy(16, [], {}))
    found, how = certified(tmp_path)
    assert found is None
    assert "came back in time" in how


def test_without_a_compiler_there_is_no_certificate_and_a_clear_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run goes on uncertified, and the user learns what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    found, said = certified(tmp_path)
    assert found is None
    assert "no C compiler" in said
    with pytest.raises(InputError, match="install gcc or clang"):
        reference_server.compiler()


@pytest.mark.parametrize(
    ("follows", "tried"),
    [
        (9999, [1320, 1500, 1750]),
        (1400, [1320, 1500]),
        (1000, [660, 990, 1320]),
        (700, [660, 990, 1320]),
        (300, [200, 430, 660, 1320]),
        (100, [200, 660, 1320]),
    ],
)
def test_the_load_is_raised_or_lowered_to_the_highest_level_that_is_followed(
    monkeypatch: pytest.MonkeyPatch, follows: int, tried: list[int]
) -> None:
    """The ceiling is bracketed in few steps; without time to spare one level is tried."""

    def attempt(_session: object, streams: int) -> Level:
        return Level(
            streams=streams,
            chunks_per_s=77.0 * streams,
            ttft_error_p99_s=0,
            followed=streams <= follows,
            server_on_time=True,
        )

    monkeypatch.setattr(calibrate, "_try", attempt)
    assert [found.streams for found in climb(None, lambda: True)] == tried
    assert [found.streams for found in climb(None, lambda: False)] == [1320]
