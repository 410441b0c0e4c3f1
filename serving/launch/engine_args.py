"""Which arguments the installed engine knows: its own parser, asked once in its own environment and kept by version."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenhour.contracts.errors import InputError, nearest
from tokenhour.contracts.io.atomic_io import disk_errors, write_text_atomic
from tokenhour.machine.progress import Status
from tokenhour.serving.launch.argv import argument_name, free_arguments
from tokenhour.serving.launch.engine_env import engine_python

_TIMEOUT_S = 300
_ALL_ARGUMENTS = "see `python -m vllm.entrypoints.openai.api_server --help` in .venv-engine"
# Run by the engine's interpreter. vLLM has moved its parser twice: try where it was, newest first.
_ASK = """
import importlib, json, sys
for where in ("vllm.utils.argparse_utils", "vllm.utils"):
    try:
        parser = importlib.import_module(where).FlexibleArgumentParser(); break
    except (ImportError, AttributeError): pass
for where in ("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args"):
    try:
        make = importlib.import_module(where).make_arg_parser; break
    except (ImportError, AttributeError): pass
found = {}
for action in make(parser)._actions:
    for option in action.option_strings:
        kind = getattr(action.type, "__name__", "") if action.type in (int, float) else ""
        takes = action.nargs != 0
        found[option] = {"takes_value": takes, "kind": kind, "choices": [str(c) for c in action.choices or ()]}
print("\\n" + json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Argument:
    """What the engine's parser says of one option."""

    takes_value: bool
    kind: str = ""
    """`int` or `float` where the parser converts to it; empty for anything else."""
    choices: tuple[str, ...] = ()


Known = Mapping[str, Argument]


def check(arguments: Mapping[str, str | float | bool], known: Known, engine: str) -> None:
    """Raise InputError naming the first of `serving.engine_args` that the engine's parser would refuse."""
    free_arguments(arguments)
    for key, value in sorted(arguments.items()):
        where, name = f"serving.engine_args.{key}", argument_name(key)
        # --compilation-config.mode sets one key of a JSON argument.
        option = f"--{name.split('.')[0]}"
        if isinstance(value, bool) and not value:
            option = f"--no-{name}"
        if option not in known:
            remedy = nearest(option, known, otherwise=_ALL_ARGUMENTS)
            raise InputError(f"{engine} has no argument {option}", where=where, remedy=remedy)
        _check_value(known[option], value, where)


def _check_value(argument: Argument, value: str | float | bool, where: str) -> None:
    if isinstance(value, bool):
        if argument.takes_value:
            raise InputError("this argument takes a value", where=where, remedy="give the value instead of true or false")
        return
    if not argument.takes_value:
        raise InputError(f"{value!r} is given to a switch", where=where, remedy="say true or false")
    if argument.choices and str(value) not in argument.choices:
        raise InputError(f"{value!r} is none of its choices", where=where, remedy=nearest(str(value), argument.choices))
    if argument.kind in {"int", "float"}:
        try:
            {"int": int, "float": float}[argument.kind](str(value))
        except ValueError as error:
            raise InputError(
                f"{value!r} is no {argument.kind}", where=where, remedy=f"give a number ({argument.kind})"
            ) from error


def check_installed(arguments: Mapping[str, str | float | bool], root: Path) -> None:
    """Hold `serving.engine_args` against the engine that is installed below `root`; see check."""
    if arguments:
        python, engine = engine_python(root)
        check(arguments, known_arguments(python, engine, Path(python).parents[1]), engine)


def known_arguments(python: str, engine: str, cache: Path) -> Known:
    """Return the engine's arguments from `cache` (a folder), asking the engine itself when its version is new there.

    Raises InputError when the engine's parser cannot be asked.
    """
    file = cache / f"arguments-{engine.replace(' ', '-')}.json"
    try:
        return _parsed(file.read_text())
    except (OSError, ValueError, KeyError):
        said = _asked(python, engine)
    with disk_errors(file):
        write_text_atomic(file, said)
    return _parsed(said)


def _parsed(text: str) -> Known:
    return {name: Argument(a["takes_value"], a["kind"], tuple(a["choices"])) for name, a in json.loads(text).items()}


def _asked(python: str, engine: str) -> str:
    """Return the parser's options as JSON."""
    quiet = {**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with Status(f"asking {engine} for its arguments (once)"):
        try:
            done = subprocess.run(
                [python, "-c", _ASK], capture_output=True, text=True, env=quiet, timeout=_TIMEOUT_S, check=True
            )
            answer = done.stdout.strip().splitlines()[-1]
            json.loads(answer)
        except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
            said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
            raise InputError(
                f"the engine's parser cannot be asked: {said[-1] if said else 'no answer'}",
                where=python,
                remedy="make setup, or leave serving.engine_args empty",
            ) from error
    return answer
