"""What `pip install .` puts on a laptop: the calculator with its price tables, away from the repository."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import ROOT
from tests.breakeven.scenarios import BASE

pytestmark = pytest.mark.system
PARTS = ("*.py", "*.j2", "*.c", "*.js", "*.css", "*.LICENSE")
HEAVY = ("torch", "transformers", "vllm", "locust", "gevent", "pynvml", "pandas", "pyarrow", "scipy", "psutil")


def uv() -> str:
    """Return the uv that `make setup` uses."""
    return shutil.which("uv") or str(ROOT / ".uv/bin/uv")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of what it is made of and unpack it into a folder of its own."""
    folder = tmp_path_factory.mktemp("light")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for link in (ROOT / "tokenhour").iterdir():
        if link.is_symlink():
            shutil.copytree(link.resolve(), source / link.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tokenhour", source / "tokenhour", symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    build = ["build", "--wheel", "--offline", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(folder)]
    subprocess.run([uv(), *build, str(source)], check=True, capture_output=True, text=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    target = ["--offline", "--no-deps", "--python", sys.executable, "--target", str(folder / "site"), str(wheel)]
    subprocess.run([uv(), "pip", "install", *target], check=True, capture_output=True, text=True, timeout=120)
    return folder / "site"


def tokenhour(site: Path, where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a folder that is no repository, with nothing but the light dependencies."""
    code = (
        f"import sys\nfor n in {HEAVY!r}: sys.modules[n] = None\n"
        # The checkout is installed here in editable form: what the wheel lacks must not be found there.
        f"sys.meta_path = [f for f in sys.meta_path if 'editable' not in getattr(f, '__module__', '')]\n"
        f"sys.path = [p for p in sys.path if p != {str(ROOT)!r}]\n"
        f"import tokenhour; assert tokenhour.__file__.startswith({str(site)!r}), tokenhour.__file__\n"
        f"sys.argv = ['tokenhour', *{arguments!r}]; from tokenhour.cli import main; main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    run = [sys.executable, "-P", "-c", code]
    return subprocess.run(run, cwd=where, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_the_wheel_brings_one_import_name_and_every_file_of_code(site: Path) -> None:
    """`bench` and `configs` are names that other packages and people's own folders have."""
    assert {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")} <= {"tokenhour", "bin", ".lock"}
    ours = {link.name for link in (ROOT / "tokenhour").iterdir() if link.is_symlink()} - {"configs"}
    code = {file.relative_to(ROOT) for name in ours for kind in PARTS for file in (ROOT / name).rglob(kind)}
    brought = {file.relative_to(site / "tokenhour") for file in (site / "tokenhour").rglob("*")}
    assert code <= brought
    assert (site / "tokenhour/py.typed").is_file()


def test_packages_of_the_same_names_are_not_in_each_others_way(site: Path, tmp_path: Path) -> None:
    """Somebody else's `bench` and `configs`, imported first, stay theirs, and a scenario is solved beside them."""
    for name in ("bench", "configs", "contracts", "serving"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"whose = 'theirs: {name}'\n")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(BASE))
    code = (
        "import sys, bench, configs, contracts, serving\n"
        "sys.meta_path = [f for f in sys.meta_path if 'editable' not in getattr(f, '__module__', '')]\n"
        "import tokenhour as th; print(th.solve('mine.yaml').experiment)\n"
        "print([m.whose for m in (bench, configs, contracts, serving)])\n"
        "import bench as again; assert again is bench"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{site}"}
    run = [sys.executable, "-P", "-c", code]
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.splitlines() == [
        "round",
        "['theirs: bench', 'theirs: configs', 'theirs: contracts', 'theirs: serving']",
    ], done.stderr


def test_a_scenario_is_solved_away_from_the_repository_and_the_table_is_named(site: Path, tmp_path: Path) -> None:
    """An installed wheel solves a scenario by the shipped prices and says which tables it used."""
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(BASE))
    done = tokenhour(site, tmp_path, "breakeven", "solve", "mine.yaml")
    assert done.returncode == 0, done.stderr
    assert f"prices: the tables that came with tokenhour, {site / 'tokenhour/configs/prices'}" in done.stdout
    assert (tmp_path / "results/round/verdict.json").is_file()
    done = tokenhour(site, tmp_path, "breakeven", "portfolio", "configs/scenarios/team.yaml", "--json")
    assert json.loads(done.stdout)["placements"], done.stderr


def test_the_working_directorys_tables_go_first(site: Path, tmp_path: Path) -> None:
    """With a machine at twice the price, and said so."""
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(BASE))
    own = tmp_path / "configs/prices"
    own.mkdir(parents=True)
    for name in ("api.yaml", "instances.yaml"):
        (own / name).write_text(
            (site / "tokenhour/configs/prices" / name).read_text().replace("on_demand: 2.29", "on_demand: 4.58")
        )
    done = tokenhour(site, tmp_path, "breakeven", "solve", "mine.yaml")
    assert "prices: configs/prices\n" in done.stdout, done.stderr
    assert json.loads((tmp_path / "results/round/verdict.json").read_text())["runs"][0]["replica_usd_per_hour"] == 4.58


def test_the_wheel_holds_the_tables_of_the_tree_and_the_report_is_rendered(site: Path, tmp_path: Path) -> None:
    """The wheel carries the repository's prices and templates; a report needs nothing else."""
    for name in ("api.yaml", "instances.yaml"):
        assert (site / "tokenhour/configs/prices" / name).read_bytes() == (ROOT / "configs/prices" / name).read_bytes()
    done = tokenhour(site, tmp_path, "breakeven", "prices", "check", "--max-age-days", "100000")
    assert "API rows" in done.stdout, done.stderr
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(BASE))
    assert tokenhour(site, tmp_path, "breakeven", "solve", "mine.yaml").returncode == 0
    done = tokenhour(site, tmp_path, "report", "mine.yaml")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results/round/report.html").stat().st_size > 100_000
