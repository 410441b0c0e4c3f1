"""YAML that people edit: read with line numbers, so that an error can name file, line, field, value and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from tokenhour.contracts.errors import InputError, nearest

Path_ = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


def load_yaml(path: Path) -> tuple[Any, dict[Path_, int]]:
    """Read a YAML file into plain data and a map from field path to line (from 1).

    Raises InputError when the file is missing, is not YAML, or names a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError) as error:
        known = sorted(str(p) for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        remedy = f"found beside it: {', '.join(known)}" if known else "check the path"
        raise InputError("no such file", where=str(path), remedy=remedy) from error
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text: {error}", where=str(path), remedy="save it as UTF-8") from error
    try:
        loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
        node = yaml.compose(text, Loader=loader)
        data = loader(text).get_single_data()  # what safe_load does, by the fast parser
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise InputError(f"not YAML: {problem}", where=f"{path}{line}", remedy="fix the syntax there") from error
    lines: dict[Path_, int] = {}
    if node is not None:
        _mark_lines(node, (), lines, path)
    return data, lines


def _mark_lines(node: yaml.Node, at: Path_, lines: dict[Path_, int], file: Path) -> None:
    lines.setdefault(at, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, key.value)
            if here in lines:
                raise InputError(
                    f"{dotted(here)} is given twice",
                    where=f"{file}:{key.start_mark.line + 1}",
                    remedy=f"keep one of lines {lines[here]} and {key.start_mark.line + 1}",
                )
            lines[here] = key.start_mark.line + 1
            _mark_lines(value, here, lines, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _mark_lines(value, (*at, index), lines, file)


def dotted(path: Path_) -> str:
    """Write a field path as people do: bench.slo.ttft_s, api[2].input."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "(whole file)"


def validate_yaml(model: type[Model], path: Path) -> Model:
    """Read `path` and validate it as `model`; InputError names file:line, field, value and remedy."""
    data, lines = load_yaml(path)
    if not isinstance(data, dict):
        raise InputError(
            f"expected fields, found {type(data).__name__}", where=str(path), remedy="start from a file in configs/"
        )
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = _first_line(error, lines)
        raise InputError(
            explain(error, model, lines),
            where=f"{path}:{first}" if first else str(path),
            remedy=f"configs/schemas/{model.model_fields['record'].default}.schema.json describes every field"
            if "record" in model.model_fields
            else "correct the field",
        ) from error


def _first_line(error: ValidationError, lines: dict[Path_, int]) -> int | None:
    found = [line for item in error.errors() if (line := _line_of(item["loc"], lines))]
    return min(found) if found else None


def _line_of(loc: Path_, lines: dict[Path_, int]) -> int | None:
    at = loc
    while at and at not in lines:
        at = at[:-1]
    return lines.get(at) if at else None


def explain(error: ValidationError, model: type[BaseModel], lines: dict[Path_, int]) -> str:
    """Say each problem of a ValidationError in a line: field, value, what is wrong, nearest names."""
    said = []
    for item in error.errors():
        loc, kind = item["loc"], item["type"]
        line = _line_of(loc, lines)
        place = f" (line {line})" if line and len(error.errors()) > 1 else ""
        if kind == "extra_forbidden":
            hint = nearest(str(loc[-1]), _fields_at(model, loc[:-1]))
            said.append(f"unknown field {dotted(loc)}{place}; {hint}")
        elif kind == "missing":
            said.append(f"{dotted(loc)} is missing{place}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            value = item["input"]
            shown = f" = {value!r}" if not isinstance(value, dict | list) else ""
            said.append(f"{dotted(loc)}{shown}{place}: {message[0].lower() + message[1:]}")
    return "\n  ".join(said)


def _fields_at(model: type[BaseModel], loc: Path_) -> set[str]:
    """Return the field names that the model has at `loc`, looking through lists, unions and dicts."""
    current: set[type[BaseModel]] = {model}
    for part in loc:
        if isinstance(part, int):
            continue
        deeper: set[type[BaseModel]] = set()
        for candidate in current:
            field = candidate.model_fields.get(part)
            if field is not None:
                deeper |= _models_in(field.annotation)
        current = deeper or current
    return {name for candidate in current for name in candidate.model_fields}


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {found for arg in get_args(annotation) for found in _models_in(arg)}
