"""The laws of the house that no linter checks."""

import ast
import datetime as dt
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.experiment import load_experiment
from tests.breakeven.summaries import EXPERIMENT, write_all
from tokenhour import COMMANDS

ROOT = Path(__file__).parent.parent
PACKAGES = ("contracts", "frontdoor", "quantize", "serving", "bench", "breakeven")
HEAVY = (
    "torch", "transformers", "gptqmodel", "llmcompressor", "bitsandbytes", "datasets", "vllm", "locust", "gevent",
    "pynvml", "matplotlib", "pandas", "pyarrow", "scipy",
)  # fmt: skip


def blocked(code: str, *names: str) -> subprocess.CompletedProcess[str]:
    """Run code with some imports blocked, in a process of its own."""
    block = f"import sys\nfor n in {names!r}: sys.modules[n] = None\n"
    return subprocess.run([sys.executable, "-c", block + code], capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_commands_help_works_without_any_heavy_package(command):
    done = blocked(
        f"import sys; sys.argv = ['tokenhour', {command!r}, '--help']; import tokenhour; tokenhour.main()", *HEAVY
    )
    assert done.returncode == 0, done.stderr
    assert "Example" in done.stdout


def test_break_even_is_solved_and_traced_without_any_heavy_package(tmp_path):
    """Summaries and price tables are enough: no torch, no pandas, no load generator."""
    results = tmp_path / "results"
    write_all(results)
    EXPERIMENT.write(tmp_path)
    arguments = ["tokenhour", "breakeven", "solve", str(tmp_path / "experiment.json"), "--results", str(results)]
    done = blocked(f"import sys; sys.argv = {arguments!r}; import tokenhour; tokenhour.main()", *HEAVY)
    assert done.returncode == 0, done.stderr
    assert (results / "golden/verdict.json").is_file()


def test_every_module_of_break_even_and_a_scenario_work_without_any_heavy_or_optional_package(tmp_path):
    """What `pip install .` without extras brings is enough; numpy is the only library of numbers."""
    modules = [f"breakeven.{file.stem}" for file in (ROOT / "breakeven").glob("*.py") if file.stem != "__main__"]
    arguments = ["tokenhour", "breakeven", "solve", "configs/scenarios/team.yaml", "--results", str(tmp_path)]
    code = (
        f"import sys, importlib\nfor name in {modules!r}: importlib.import_module(name)\n"
        f"sys.argv = {arguments!r}; import tokenhour; tokenhour.main()"
    )
    done = blocked(code, *HEAVY, "genai_prices", "psutil", "httpx", "tokenizers")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "team/verdict.json").is_file()


def test_the_generated_files_are_current():
    command = [sys.executable, "-m", "frontdoor.schemas", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_generated_file_that_is_out_of_date_is_named(tmp_path):
    shutil.copytree(ROOT / "frontdoor", tmp_path / "frontdoor")
    shutil.copytree(ROOT / "contracts", tmp_path / "contracts")
    command = [sys.executable, "-m", "frontdoor.schemas", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "docs/records/server.md" in done.stdout


def test_the_readmes_experiment_is_valid_and_priced(tmp_path):
    from breakeven.prices import api_price, hourly_usd, instance_price, load_tables

    block = re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block
    (tmp_path / "mine.yaml").write_text(block[1])
    wanted = load_experiment(tmp_path / "mine.yaml").economics
    tables, today = load_tables(ROOT / "configs/prices"), dt.date(2026, 11, 24)
    row = instance_price(tables, wanted.hardware, wanted.cloud, wanted.region, today)
    assert hourly_usd(row, wanted.purchase) > 0
    assert all(api_price(tables, api.model, api.host, today) for api in wanted.apis)


def test_contracts_import_only_the_standard_library_pydantic_and_yaml():
    allowed = {"pydantic", "yaml", "contracts", *sys.stdlib_module_names}
    for file in (ROOT / "contracts").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.split(".")[0] for name in names} <= allowed, file.name


def test_locust_is_imported_in_one_file():
    importing = [
        file.relative_to(ROOT)
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        if any(line.lstrip().startswith(("import locust", "from locust")) for line in file.read_text().splitlines())
    ]
    assert len(importing) == 1, importing


def test_every_test_folder_is_a_package():
    folders = {file.parent for file in (ROOT / "tests").rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_vllm_is_never_imported():
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert "vllm" not in {name.split(".")[0] for name in names}, file


def test_the_locks_name_no_index_and_pin_everything():
    for lock in (ROOT / "requirements").glob("*.txt"):
        for line in lock.read_text().splitlines():
            assert "://" not in line, lock.name
            assert line.startswith("#") or "==" in line, f"{lock.name}: {line}"


def test_every_package_is_installed():
    """A folder that the wheel leaves out is missed only by those who install it."""
    import tomllib

    said = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {".".join(file.parent.relative_to(ROOT).parts) for p in PACKAGES for file in (ROOT / p).rglob("__init__.py")}
    data = {name for name in said if name.startswith("configs.")}
    assert found == said - data
    assert all(list((ROOT / name.replace(".", "/")).glob("*.yaml")) for name in data)
