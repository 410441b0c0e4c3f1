"""The laws of the house that no linter checks."""

import ast
import datetime as dt
import itertools
import re
import shutil
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests import ROOT
from tests.breakeven.summaries import EXPERIMENT, write_all
from tokenhour.cli import COMMANDS
from tokenhour.contracts.config.experiment import load_experiment

PACKAGES = ("contracts", "machine", "quantize", "serving", "bench", "breakeven", "frontdoor")
CODE = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
MOST_FILES = 15
# Folders of tests that follow no single file: a stage as a whole, and what needs an engine, a GPU or a browser.
WHOLE = {"whole", "engine", "gpu", "browser", "deploy", "property", "golden", "nvml"}
# What has no test file of its own, and what tests it.
TESTED_BY = {
    "contracts/plot_style.py": "tests/bench/test_plots.py",
    "contracts/config/idle_scan.py": "tests/serving/idle_scan/test_rules.py",
    "contracts/records/endpoint.py": "tests/bench/target/test_discovery.py",
    "contracts/records/engine_quality.py": "tests/quantize/engine_check/test_tolerance.py",
    "contracts/records/request.py": "tests/bench/recording/test_recorder.py",
    "contracts/records/telemetry.py": "tests/bench/telemetry/test_series.py",
    "contracts/records/verdict_extras.py": "tests/test_goldens.py",
    "contracts/standalone/generator_certificate.py": "tests/bench/calibration/test_calibrate.py",
    "contracts/standalone/gpu_benchmark.py": "tests/frontdoor/gpu_benchmark/test_command.py",
    "contracts/standalone/idle.py": "tests/serving/proxy/test_idle_policy.py",
    "contracts/standalone/scheme_ladder.py": "tests/quantize/evaluation/test_ladder.py",
    "quantize/backends/bitsandbytes_load.py": "tests/engine/test_schemes.py",
    "quantize/backends/llm_compressor.py": "tests/quantize/schemes/test_w8a8.py",
    "quantize/backends/smoothquant.py": "tests/quantize/schemes/test_w8a8.py",
    "quantize/data/prompts.py": "tests/quantize/engine_check/test_check.py",
    "quantize/schemes/bnb_int8.py": "tests/engine/test_schemes.py",
    "quantize/schemes/bnb_nf4.py": "tests/engine/test_schemes.py",
    "quantize/schemes/gptq_int4.py": "tests/quantize/backends/test_gptqmodel.py",
    "quantize/schemes/gptq_int8.py": "tests/quantize/backends/test_gptqmodel.py",
    "bench/loadgen/without_locust_web.py": "tests/bench/loadgen/test_main.py",
    "breakeven/inputs/names.py": "tests/breakeven/inputs/test_problem.py",
    "breakeven/model/plant.py": "tests/breakeven/model/test_replica_cost.py",
    "breakeven/report/table.py": "tests/breakeven/report/test_tables.py",
}
HEAVY = (
    "torch", "transformers", "gptqmodel", "llmcompressor", "bitsandbytes", "datasets", "vllm", "locust", "gevent",
    "pynvml", "matplotlib", "pandas", "pyarrow", "scipy",
)  # fmt: skip


def blocked(code: str, *names: str) -> subprocess.CompletedProcess[str]:
    """Run code with some imports blocked, in a process of its own."""
    block = f"import sys\nfor n in {names!r}: sys.modules[n] = None\n"
    return subprocess.run([sys.executable, "-c", block + code], capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_commands_help_works_without_any_heavy_package(command: str) -> None:
    """Help answers on a laptop that has neither torch nor vLLM, and shows an example."""
    done = blocked(
        f"import sys; sys.argv = ['tokenhour', {command!r}, '--help']; from tokenhour.cli import main; main()", *HEAVY
    )
    assert done.returncode == 0, done.stderr
    assert "Example" in done.stdout


def test_break_even_is_solved_and_traced_without_any_heavy_package(tmp_path: Path) -> None:
    """Summaries and price tables are enough: no torch, no pandas, no load generator."""
    results = tmp_path / "results"
    write_all(results)
    EXPERIMENT.write(tmp_path)
    arguments = ["tokenhour", "breakeven", "solve", str(tmp_path / "experiment.json"), "--results", str(results)]
    done = blocked(f"import sys; sys.argv = {arguments!r}; from tokenhour.cli import main; main()", *HEAVY)
    assert done.returncode == 0, done.stderr
    assert (results / "golden/verdict.json").is_file()


def test_every_module_of_break_even_and_a_scenario_work_without_any_heavy_or_optional_package(tmp_path: Path) -> None:
    """What `pip install .` without extras brings is enough; numpy is the only library of numbers."""
    files = [file for file in CODE if file.is_relative_to(ROOT / "breakeven") and file.stem != "__main__"]
    modules = [".".join(("tokenhour", *file.relative_to(ROOT).with_suffix("").parts)) for file in files]
    arguments = ["tokenhour", "breakeven", "solve", "configs/scenarios/team.yaml", "--results", str(tmp_path)]
    code = (
        f"import sys, importlib\nfor name in {modules!r}: importlib.import_module(name)\n"
        f"sys.argv = {arguments!r}; from tokenhour.cli import main; main()"
    )
    done = blocked(code, *HEAVY, "genai_prices", "psutil", "httpx", "tokenizers")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "team/verdict.json").is_file()


def test_the_generated_files_are_current() -> None:
    """Schemas and record pages in the repository match the records in the code."""
    command = [sys.executable, "-m", "tokenhour.frontdoor.docgen.schemas", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_generated_file_that_is_out_of_date_is_named(tmp_path: Path) -> None:
    """The check tells which file to regenerate."""
    for name in ("tokenhour", *PACKAGES):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True)
    command = [sys.executable, "-m", "tokenhour.frontdoor.docgen.schemas", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "docs/records/server.md" in done.stdout


def test_the_readmes_experiment_is_valid_and_priced(tmp_path: Path) -> None:
    """The first file that a reader copies loads, and its machine and APIs have prices."""
    from tokenhour.breakeven.prices.tables import api_price, hourly_usd, instance_price, load_tables

    block = re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block
    (tmp_path / "mine.yaml").write_text(block[1])
    wanted = load_experiment(tmp_path / "mine.yaml").economics
    tables, today = load_tables(ROOT / "configs/prices"), dt.date(2026, 11, 24)
    row = instance_price(tables, wanted.hardware, wanted.cloud, wanted.region, today)
    assert hourly_usd(row, wanted.purchase) > 0
    assert all(api_price(tables, api.model, api.host, today) for api in wanted.apis)


@cache
def imported(file: Path) -> set[str]:
    """Return the dotted names that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names |= {a.name for a in node.names} if isinstance(node, ast.Import) else set()
        names |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
    return names


def test_contracts_hold_nouns_only() -> None:
    """They read and write files; they start nothing, wait for nothing and speak to nobody."""
    acting = {"subprocess", "threading", "multiprocessing", "asyncio", "ctypes", "http", "urllib", "socket"}
    allowed = {"pydantic", "yaml", *sys.stdlib_module_names} - acting
    for file in (ROOT / "contracts").rglob("*.py"):
        foreign = {name for name in imported(file) if not name.startswith("tokenhour.contracts")}
        assert {name.split(".")[0] for name in foreign} <= allowed, file


def test_no_folder_holds_more_files_than_a_stranger_reads() -> None:
    """A folder stays small enough to be read as a list."""
    crowded = {folder for folder in {file.parent for file in CODE} if len(list(folder.glob("*.py"))) > MOST_FILES + 1}
    assert crowded == set()  # one more: __init__


def test_everything_is_imported_by_its_one_name() -> None:
    """`import bench` would work in the tree and not where the wheel is installed."""
    for file in [*CODE, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        assert not {name.split(".")[0] for name in imported(file)} & set(PACKAGES), file


def test_every_top_level_folder_of_code_is_linked_into_the_package() -> None:
    """Each folder is importable below the one package name, and no link is left over."""
    links = {link.name: link.resolve() for link in (ROOT / "tokenhour").iterdir() if link.is_symlink()}
    assert links == {name: ROOT / name for name in (*PACKAGES, "configs")}


def test_the_tests_mirror_the_code() -> None:
    """tests/a/b/test_c.py tests a/b/c.py, or the folder a/b/c/ as a whole."""
    for file in (ROOT / "tests").rglob("test_*.py"):
        place = file.relative_to(ROOT / "tests")
        if len(place.parts) == 1 or WHOLE & set(place.parts):
            continue
        mirrored = ROOT / place.parent / place.stem.removeprefix("test_")
        assert mirrored.is_dir() or mirrored.with_suffix(".py").is_file(), place


def test_every_file_of_code_has_its_tests() -> None:
    """They stand in the file of its name, in that of its folder, or where TESTED_BY says."""
    untested = set()
    for file in (file for file in CODE if file.stem not in {"__init__", "__main__"}):
        place = file.relative_to(ROOT)
        own, folder = (ROOT / "tests" / name.parent / f"test_{name.stem}.py" for name in (place, place.parent))
        if not own.is_file() and not folder.is_file():
            untested.add(str(place))
    assert untested == set(TESTED_BY)
    assert [test for test in TESTED_BY.values() if not (ROOT / test).is_file()] == []


def test_locust_is_imported_in_one_file() -> None:
    """Importing Locust patches the whole process, so it is kept to the generator."""
    importing = [file for file in CODE if "locust" in {name.split(".")[0] for name in imported(file)}]
    assert len(importing) == 1, importing


def test_every_test_folder_is_a_package() -> None:
    """A test folder without __init__.py would shadow the package of the same name."""
    folders = {file.parent for file in (ROOT / "tests").rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_vllm_is_never_imported() -> None:
    """The engine runs as a process of its own, so that its crash or licence is not ours."""
    for file in CODE:
        assert "vllm" not in {name.split(".")[0] for name in imported(file)}, file


def test_the_locks_name_no_index_and_pin_everything() -> None:
    """Anybody can install from the locks, from any index, and get the same versions."""
    for lock in (ROOT / "requirements").glob("*.txt"):
        for line in lock.read_text().splitlines():
            assert "://" not in line, lock.name
            assert line.startswith("#") or "==" in line, f"{lock.name}: {line}"


def test_the_page_of_the_house_names_every_folder_with_its_docstring() -> None:
    """Whoever opens docs/house.md sees each room, in the words of its own `__init__`."""
    page = (ROOT / "docs/house.md").read_text()
    for folder in sorted({file.parent for file in CODE}):
        about = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
        row = f"| `{folder.relative_to(ROOT)}/` | {about.splitlines()[0].rstrip('.')} |"
        assert row in page, row


@pytest.mark.parametrize("walk", ["A request row's way", "A checkpoint's way"])
def test_a_walk_through_the_house_never_returns_to_a_room_it_left(walk: str) -> None:
    """Data goes one way; every file that the walk names exists."""
    page = (ROOT / "docs/house.md").read_text()
    steps = re.findall(r"^\d+\. (.*)$", page.split(f"## {walk}\n")[1].split("\n## ")[0], re.MULTILINE)
    files = [Path(name) for step in steps for name in re.findall(r"`([a-z_0-9/]+\.py)`", step)]
    assert len(files) >= 10
    assert all((ROOT / file).is_file() for file in files)
    rooms = [room for room, _ in itertools.groupby(file.parent for file in files)]
    assert len(rooms) == len(set(rooms)), rooms


def test_no_class_name_means_two_things() -> None:
    """One definition per noun: whoever reads `Probe` knows which."""
    names = [node.name for file in CODE for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef)]
    assert sorted(name for name, count in Counter(names).items() if count > 1) == []
