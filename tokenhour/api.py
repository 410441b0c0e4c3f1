"""The Python face: measured runs and prices as pandas tables, verdicts as records. Loads no engine and no load generator."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenhour.breakeven.prices.listing import chosen
from tokenhour.breakeven.prices.tables import load_tables
from tokenhour.breakeven.stage import Asked, answer, load
from tokenhour.contracts.config.prices import ApiPrice, InstancePrice
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.package_data import prices_folder
from tokenhour.contracts.record import Part
from tokenhour.contracts.records.request import REQUESTS_FILE
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.telemetry import TELEMETRY_FILE
from tokenhour.contracts.records.verdict import Verdict

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Run:
    """One measured run. Its tables are read when they are first asked for; column names carry the units."""

    path: Path
    summary: Summary

    @cached_property
    def requests(self) -> DataFrame:
        """One row a request, as the load generator saw it; times in seconds on the run's clock.

        Columns: docs/records/requests.md. InputError when the run kept no requests.
        """
        return _read(self.path / REQUESTS_FILE)

    @cached_property
    def telemetry(self) -> DataFrame:
        """One row a sample: `t_s`, `source`, `index`, `metric` (its name ends in its unit) and `value`.

        InputError when the run kept no telemetry.
        """
        return _read(self.path / TELEMETRY_FILE)

    @cached_property
    def load_curve(self) -> DataFrame:
        """One row a probe, in the order measured. `ttft_p90_s` is the field `ttft.p90_s` of docs/records/summary.md."""
        return _table(point.model_dump(mode="json") for point in self.summary.load_curve)


@dataclass(frozen=True)
class Prices:
    """Dated price rows. `apis` has columns like `input_per_mtok`, `instances` like `on_demand_per_hour`, in `currency`."""

    apis: DataFrame
    instances: DataFrame
    folder: Path


def open_run(path: str | Path) -> Run:
    """Open a measured run's folder, such as results/demo-w8a8; InputError when it holds no summary."""
    folder = Path(path)
    return Run(folder, Summary.read(folder))


def solve(
    question: str | Path | Asked,
    *,
    results: str | Path = "results",
    prices: str | Path | None = None,
    allow_invalid: bool = False,
) -> Verdict:
    """Solve break-even for an experiment or a scenario (a file or a record) against every API that it names.

    Nothing is written. `results` holds the measured runs; `prices` is a folder of api.yaml and instances.yaml (default:
    configs/prices here, else the tables that come with tokenhour). InputError for what is missing or wrong,
    RunFailedError when every run is INVALID and that is not allowed.
    """
    asked = load(Path(question)) if isinstance(question, str | Path) else question
    return answer(asked, Path(results), Path(prices or prices_folder()), allow_invalid=allow_invalid)


def prices(model: str = "", host: str = "", *, on: dt.date | None = None, folder: str | Path | None = None) -> Prices:
    """Return the price rows whose model, GPU or instance contains `model`, of one host or cloud, in force on a day.

    InputError with the nearest names when no row matches.
    """
    tables = load_tables(Path(folder or prices_folder()))
    rows = chosen(tables, model, host, on)
    return Prices(
        _priced([row for row in rows if isinstance(row, ApiPrice)], ApiPrice, _PER_MTOK, "per_mtok"),
        _priced([row for row in rows if isinstance(row, InstancePrice)], InstancePrice, _PER_HOUR, "per_hour"),
        tables.folder,
    )


_PER_MTOK = ("input", "output", "cache_read", "cache_write")
_PER_HOUR = ("on_demand", "spot", "reserved_1y", "reserved_3y")


def _priced(rows: Sequence[Part], kind: type[Part], money: Iterable[str], unit: str) -> DataFrame:
    found = _table((row.model_dump() for row in rows), kind.model_fields)
    found = found.map(lambda value: float(value) if isinstance(value, Decimal) else value)
    return found.rename(columns={name: f"{name}_{unit}" for name in money})


def _read(file: Path) -> DataFrame:
    pandas = _pandas()
    if not file.is_file():
        raise InputError(f"no {file.name} here", where=str(file.parent), remedy="measure again, or copy the file beside it")
    return pandas.read_parquet(file)


def _table(rows: Iterable[Mapping[str, Any]], columns: Iterable[str] = ()) -> DataFrame:
    """Lay nested records out as columns: `ttft.p90_s` becomes `ttft_p90_s`."""
    found = _pandas().json_normalize(list(rows), sep="_")
    return found if len(found) else found.reindex(columns=list(columns))


def _pandas() -> Any:
    try:
        import pandas as pd
        import pyarrow  # noqa: F401, ICN001 (what pandas reads the tables with)
    except ImportError as error:
        raise InputError(
            f"{error.name} is not installed", where="tokenhour", remedy="pip install 'tokenhour[frames]'"
        ) from error
    return pd
