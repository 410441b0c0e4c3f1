"""Keeping an engine up, with engines that do as told."""

from collections.abc import Callable

import pytest

from tests.serving.supervisor.conftest import Kept

pytestmark = pytest.mark.system


def test_an_error_that_nobody_thought_of_is_a_failed_engine_with_its_message(
    keep: Callable[..., Kept],
) -> None:
    """A thread that is gone in the state `starting` would be waited for for ever."""
    kept, engines = keep()
    engines.plan = [KeyError("choices")]
    kept.start()
    assert kept.wait_for("failed", timeout_s=5)
    assert kept.error == "KeyError: 'choices'"
