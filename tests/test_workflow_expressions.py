"""What the schema and zizmor do not look at in the workflows: expressions, conditions, and the shell of each step.

actionlint would do all of it; it is no Python package that installs without fetching a binary. Not covered here: types (a
boolean where a string is wanted), the properties of `github.event` and of other objects that GitHub fills in, outputs of
steps, functions' arguments, runners' labels, and what an action accepts under `with`.
"""

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.test_workflows import FILES, read

CONTEXTS = {"github", "inputs", "env", "steps", "matrix", "needs", "runner", "secrets"}
FUNCTIONS = {
    "always", "cancelled", "contains", "endsWith", "failure", "format", "fromJSON", "hashFiles", "join", "startsWith",
    "success", "toJSON",
}  # fmt: skip
WORDS = {"true", "false", "null"}
TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?)|(?P<name>[A-Za-z_][\w-]*(?:\.(?:[A-Za-z_][\w-]*|\*))*)"
    r"|(?P<sign>==|!=|<=|>=|&&|\|\||[!<>(),\[\]]))"
)
PAIRS = {"(": ")", "[": "]"}


def faults(
    expression: str, steps: Sequence[str] = (), inputs: Iterable[str] = (), needs: Sequence[str] = ()
) -> Iterator[str]:
    """Yield what is wrong with an expression, given the ids, inputs and needed jobs that exist where it stands."""
    at, open_, last = 0, [], ""
    while expression[at:].strip():
        found = TOKEN.match(expression, at)
        if found is None:
            yield f"not readable from {expression[at:].strip()!r}"
            return
        at, name, sign = found.end(), found["name"], found["sign"]
        called = name is not None and expression[at:].lstrip().startswith("(")
        if called:
            yield from () if name in FUNCTIONS else (f"no function {name}",)
        elif name is not None:
            yield from unknown(name, {"steps": steps, "inputs": inputs, "needs": needs})
        if sign in PAIRS:
            open_.append(PAIRS[sign])
        elif sign in {")", "]"} and (not open_ or open_.pop() != sign):
            yield f"{sign} closes nothing"
        if sign is None and last == "operand":
            yield f"two operands in a row at {found[0].strip()!r}"
        # A call is an operand once its parenthesis is closed.
        ends = (sign is None and not called) or sign in {")", "]"}
        last = "operand" if ends else "operator"
    if open_:
        yield f"{open_[-1]} is missing"
    if last != "operand":
        yield "it ends without an operand"


def unknown(name: str, known: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a name: its context, or what it names there."""
    context, _, rest = name.partition(".")
    if context not in CONTEXTS | WORDS:
        yield f"no context {context}"
    if context in known and rest and rest.split(".")[0] not in known[context]:
        yield f"no {name}"


def texts(node: object) -> Iterator[str]:
    """Yield every string below a node of a workflow."""
    if isinstance(node, dict):
        for value in node.values():
            yield from texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts(value)
    elif isinstance(node, str):
        yield node


def inside(text: str) -> list[str]:
    """Return the expressions of a text; AssertionError for one that is not closed."""
    assert text.count("${{") == text.count("}}"), text
    return re.findall(r"\$\{\{(.*?)\}\}", text, re.DOTALL)


def problems(workflow: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong in a workflow's expressions and conditions."""
    inputs = (
        ((workflow["on"].get("workflow_dispatch") or {}).get("inputs") or {}) if isinstance(workflow["on"], dict) else {}
    )
    for text in texts({key: value for key, value in workflow.items() if key != "jobs"}):
        for found in inside(text):
            yield from faults(found, inputs=inputs)
    for job in workflow["jobs"].values():
        needs = job.get("needs", [])
        around = {"inputs": inputs, "needs": [needs] if isinstance(needs, str) else needs}
        yield from conditions(job, {**around, "steps": ()})
        before: list[str] = []
        for step in job["steps"]:
            yield from conditions(step, {**around, "steps": before})
            # A step sees those before it.
            before += [step["id"]] if "id" in step else []


def conditions(node: dict[str, Any], around: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong in a job's or step's condition and texts."""
    condition = node.get("if")
    if condition is not None and "${{" not in condition:
        yield from faults(condition, **around)
    for text in texts({key: value for key, value in node.items() if key != "steps"}):
        for found in inside(text):
            yield from faults(found, **around)


def scripts(workflow: dict[str, Any]) -> list[str]:
    """Return the shell of every step."""
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_expressions_and_conditions_name_what_exists_and_are_whole(file: Path) -> None:
    """GitHub evaluates a misspelt name to an empty string without a word."""
    assert list(problems(read(file))) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_shell_of_each_step_can_be_read(file: Path) -> None:
    """A syntax error in a step is found here rather than after a push."""
    for script in scripts(read(file)):
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), script


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_shellcheck_finds_nothing(file: Path) -> None:
    """Unquoted variables and the like are found before they break a workflow."""
    for script in scripts(read(file)):
        done = subprocess.run(["shellcheck", "--shell=bash", "-"], input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("github.event_name == 'push' && !inputs.full", None),
        ("contains(github.ref, 'x') || always()", None),
        ("steps.made.outputs.path", None),
        ("githb.ref", "no context githb"),
        ("inputs.ful", "no inputs.ful"),
        ("steps.mad.outputs.path", "no steps.mad"),
        ("needs.build.result", "no needs.build"),
        ("contain(github.ref, 'x')", "no function contain"),
        ("(github.ref == 'x'", "is missing"),
        ("github.ref == 'x')", "closes nothing"),
        ("github.ref == 'x", "not readable"),
        ('github.ref == "x"', "not readable"),
        ("github.ref = 'x'", "not readable"),
        ("github.ref ==", "without an operand"),
        ("github.ref 'x'", "two operands"),
        ("", "without an operand"),
    ],
)  # fmt: skip
def test_the_check_itself_finds_what_it_says(expression: str, fault: str | None) -> None:
    """Each kind of fault is reported, and correct expressions are not."""
    found = list(faults(expression, steps=("made",), inputs=("full",)))
    assert found == [] if fault is None else any(fault in said for said in found), found


def test_an_expression_that_is_not_closed_and_a_step_that_comes_later_are_found() -> None:
    """A step cannot use the outcome of one that runs after it."""
    with pytest.raises(AssertionError):
        inside("${{ github.ref }")
    steps = [{"run": "true", "if": "steps.later.outcome == 'success'"}, {"id": "later", "run": "true"}]
    assert list(problems({"on": {}, "jobs": {"a": {"steps": steps}}})) == ["no steps.later.outcome"]
