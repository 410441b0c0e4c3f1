"""The Python face: the same figures as the records and the command line, as pandas tables."""

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import tokenhour as th
from tests import ROOT
from tests.breakeven.scenarios import BASE
from tokenhour.cli import cli
from tokenhour.contracts.config.scenario import Scenario
from tokenhour.contracts.errors import InputError

KEPT = ROOT / "results/reference/nvidia-h100-80gb-hbm3/h100-8b-chat-none"
NOTEBOOK = ROOT / "docs/python.ipynb"


@pytest.fixture(scope="module")
def run() -> th.Run:
    """Open the run that is kept in the repository, measured on one H100."""
    return th.open_run(KEPT)


def test_the_load_curve_holds_one_row_a_probe_with_the_records_figures(run: th.Run) -> None:
    """Nested fields become columns whose names end in their units."""
    assert list(run.load_curve.probe) == [point.probe for point in run.summary.load_curve]
    assert list(run.load_curve.ttft_p90_s) == [point.ttft.p90_s for point in run.summary.load_curve]


def test_the_requests_of_a_probe_give_its_figure_again(run: th.Run) -> None:
    """A notebook can derive any statistic anew from the raw rows."""
    point = run.summary.load_curve[1]
    rows = run.requests[run.requests.probe == point.probe]
    inside = rows[(rows.scheduled_s >= point.window_start_s) & (rows.scheduled_s < point.window_start_s + point.window_s)]
    assert len(inside) == point.requests
    assert (inside.first_token_s - inside.scheduled_s).quantile(0.5) == pytest.approx(point.ttft.p50_s, rel=0.05)


def test_telemetry_is_long_with_units_in_the_metrics_names(run: th.Run) -> None:
    """A counter that a device does not offer is absent, not zero."""
    assert list(run.telemetry.columns) == ["t_s", "source", "index", "metric", "value"]
    assert {"power_w", "memory_used_bytes", "cpu_share"} <= set(run.telemetry.metric)


def test_a_folder_without_a_summary_is_refused_with_a_remedy(tmp_path: Path) -> None:
    """The remedy names what writes the summary."""
    with pytest.raises(InputError, match=r"no summary\.json here"):
        th.open_run(tmp_path)


def test_a_run_without_raw_tables_still_has_its_summary(tmp_path: Path) -> None:
    """Only the table that is missing is refused, when it is asked for."""
    (tmp_path / "summary.json").write_bytes((KEPT / "summary.json").read_bytes())
    found = th.open_run(tmp_path)
    assert len(found.load_curve) == len(found.summary.load_curve)
    with pytest.raises(InputError, match=r"no requests\.parquet here"):
        _ = found.requests


def test_solve_gives_the_command_lines_verdict_and_writes_nothing(tmp_path: Path) -> None:
    """A file and a record of the same scenario are the same question."""
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(BASE))
    results = tmp_path / "results"
    from_file = th.solve(file, results=results)
    from_record = th.solve(Scenario.model_validate(BASE), results=results)
    assert not results.exists()
    shown = CliRunner().invoke(cli, ["breakeven", "solve", str(file), "--results", str(results), "--json"])
    records = [json.loads(shown.stdout), from_file.model_dump(mode="json"), from_record.model_dump(mode="json")]
    for record in records:
        record.pop("created_utc")
    assert records[0] == records[1] == records[2]


def test_prices_are_those_of_the_command_line() -> None:
    """Rows in force on a day, money as numbers with its unit in the column's name."""
    day = dt.date(2026, 11, 30)
    found = th.prices("llama", on=day)
    shown = CliRunner().invoke(cli, ["breakeven", "prices", "list", "--model", "llama", "--on", str(day), "--json"])
    rows = json.loads(shown.stdout)
    assert [float(row["input"]) for row in rows if "input" in row] == list(found.apis.input_per_mtok)
    assert len(found.apis) + len(found.instances) == len(rows)


def test_a_kind_of_price_that_does_not_match_is_an_empty_table() -> None:
    """Its columns are there all the same, so that code over it need not ask."""
    found = th.prices("H100")
    assert len(found.apis) == 0
    assert "input_per_mtok" in found.apis.columns
    assert found.instances.on_demand_per_hour.dropna().gt(0).all()


def test_a_name_that_matches_no_price_is_refused_with_the_nearest() -> None:
    """A typing error must not look like an empty market."""
    with pytest.raises(InputError, match="no price matches model 'lama-9'"):
        th.prices("lama-9")


def test_importing_loads_no_engine_no_load_generator_and_no_plots() -> None:
    """A notebook starts at once and can run where none of them is installed."""
    code = (
        "import sys, tokenhour as th; light = set(sys.modules); th.open_run\n"
        "heavy = {'torch', 'vllm', 'locust', 'gevent', 'matplotlib', 'transformers', 'pandas', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)), 'pydantic' in light)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split("\n")[0] == "[] False"


def test_without_pandas_the_refusal_names_the_extra() -> None:
    """`pip install tokenhour` alone brings no pandas."""
    code = (
        "import sys; sys.modules['pandas'] = None; import tokenhour as th\n"
        "try: th.prices()\nexcept Exception as error: print(type(error).__name__, error.remedy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "InputError pip install 'tokenhour[frames]'\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    """The lazy names must not hide a typing error."""
    with pytest.raises(AttributeError, match="no attribute 'slove'"):
        _ = th.slove  # type: ignore[attr-defined]
    assert set(th.__all__) <= set(dir(th))


@pytest.mark.system
def test_the_notebook_of_the_documentation_runs_and_its_output_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader sees in docs/ is what this version prints."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    book = nbformat.read(NOTEBOOK, as_version=4)
    fresh = NotebookClient(nbformat.read(NOTEBOOK, as_version=4), timeout=120, resources={"metadata": {"path": str(ROOT)}})
    done = fresh.execute()
    assert [_texts(cell) for cell in done.cells] == [_texts(cell) for cell in book.cells]


def _texts(cell: Any) -> list[str]:
    """Return the plain text that a cell printed or returned."""
    found = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", [])]
    return [text for text in found if text]
