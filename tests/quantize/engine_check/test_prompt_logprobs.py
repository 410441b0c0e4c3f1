"""An engine that refuses, dies, says nothing of use or wants a key is told from one that answers."""

from typing import Any

import pytest

from tests.quantize.engine_check.toy_engine import Bench, Fault, answers, drop, engine, half, reset
from tokenhour.contracts.errors import InputError, RunFailedError

pytestmark = pytest.mark.system


def test_what_the_engine_refuses_is_shown(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """The engine's own words reach the user."""
    with engine(bench.made["none"].path, answers(b"no", 400)) as url:
        assert bench.ask(url) == RunFailedError.exit_code
    assert "the engine answers 400: no" in capfd.readouterr().err


@pytest.mark.parametrize("healthy", [0, 2])
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (drop, "gave no whole answer"),
        (half, "gave no whole answer"),
        (reset, "gave no whole answer"),
        (answers(b"<html>"), "gave no whole answer"),
        (answers(b"[]"), "holds no logprobs"),
        (answers(b'{"choices": [{"prompt_logprobs": null}]}'), "holds no logprobs"),
        (answers(b'{"choices": [{"prompt_logprobs": [null, {}]}]}'), "holds no logprobs"),
    ],
)
def test_an_engine_that_dies_or_says_nothing_of_use_is_a_run_that_failed(
    bench: Bench, capfd: pytest.CaptureFixture[str], fault: Fault, said: str, healthy: int
) -> None:
    """Half, broken or useless answers end with one message and a remedy, never a traceback."""
    with engine(bench.made["gptq-int4"].path, fault, healthy=healthy) as url:
        assert bench.ask(url) == RunFailedError.exit_code
    shown = capfd.readouterr().err
    assert said in shown
    assert "remedy:" in shown
    assert "Traceback" not in shown


def test_a_server_that_is_gone_after_the_first_window_failed(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """A server that stops midway yields no record from partial data."""

    def goes(handler: Any, body: bytes) -> None:
        handler.server.shutdown()
        handler.server.socket.close()
        answers(body)(handler, body)

    with engine(bench.made["gptq-int4"].path, goes) as url:
        assert bench.ask(url) == RunFailedError.exit_code
    assert "remedy:" in capfd.readouterr().err


def test_the_key_that_the_server_wants_is_sent_from_the_environment(
    bench: Bench, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is read from its variable, appears in no record, and a wrong one is named."""
    monkeypatch.setenv("TINY_KEY", "secret")
    with engine(bench.made["gptq-int4"].path, key="secret") as url:
        assert bench.ask(url, api_key_env="TINY_KEY") == 0
        for known in ("wrong", None):
            monkeypatch.setenv("TINY_KEY", known) if known else monkeypatch.delenv("TINY_KEY")
            assert bench.ask(url, api_key_env="TINY_KEY") == InputError.exit_code
    shown = capfd.readouterr().err
    assert shown.count("the server answers 401 Unauthorized") == 2
    assert "put the right key into TINY_KEY" in shown
    assert not any("secret" in file.read_text() for file in bench.run.rglob("*.json"))
