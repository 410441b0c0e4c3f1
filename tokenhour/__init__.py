"""Measure what a GPU-hour of your own buys in tokens at your latency objective, and which API it beats.

    import tokenhour as th

    run = th.open_run("results/demo-w8a8")
    run.summary.at_slo, run.load_curve, run.requests, run.telemetry
    th.solve("configs/scenarios/support-bot.yaml").sentence
    th.prices(model="llama").apis

The names below are loaded when they are first used: importing tokenhour costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["Prices", "Run", "open_run", "prices", "solve"]

if TYPE_CHECKING:
    from tokenhour.api import Prices, Run, open_run, prices, solve
else:

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'tokenhour' has no attribute {name!r}")
        from tokenhour import api

        return getattr(api, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
