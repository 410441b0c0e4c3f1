"""Generate configs/schemas/ (for editors) and docs/records/ from contracts/; `--check` only compares."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.config.idle_scan import ScanPolicy
from tokenhour.contracts.config.prices import ApiPriceTable, InstancePriceTable
from tokenhour.contracts.config.scenario import Scenario
from tokenhour.contracts.record import DESCRIBE
from tokenhour.contracts.records.checkpoint import Checkpoint, Packed
from tokenhour.contracts.records.endpoint import Endpoint, Load
from tokenhour.contracts.records.engine_quality import EngineQuality
from tokenhour.contracts.records.environment import Environment
from tokenhour.contracts.records.probe import Probes
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.verdict import Verdict
from tokenhour.contracts.standalone.generator_certificate import Certificate
from tokenhour.contracts.standalone.gpu_benchmark import Proof
from tokenhour.contracts.standalone.idle import IdleRecord
from tokenhour.contracts.standalone.roofline import MachineRates, Roofline
from tokenhour.contracts.standalone.scheme_ladder import Ladder
from tokenhour.contracts.standalone.traffic_profile import TrafficProfile
from tokenhour.frontdoor.docgen import row_pages
from tokenhour.frontdoor.docgen.type_names import cell, type_words

ROOT = Path(__file__).resolve().parents[2]
EDITED: tuple[type[BaseModel], ...] = (Experiment, Load, Scenario, ApiPriceTable, InstancePriceTable, ScanPolicy)
RECORDS: tuple[type[BaseModel], ...] = (
    *EDITED,
    Certificate,
    Checkpoint,
    Endpoint,
    EngineQuality,
    Environment,
    Ladder,
    IdleRecord,
    MachineRates,
    Packed,
    Probes,
    Proof,
    Roofline,
    Server,
    Summary,
    TrafficProfile,
    Verdict,
)


def generated() -> Iterator[tuple[Path, str]]:
    """Yield (path, text) of every generated file."""
    for model in EDITED:
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
        yield ROOT / "configs/schemas" / f"{_kind(model)}.schema.json", json.dumps(schema, indent=2) + "\n"
    for model in RECORDS:
        yield ROOT / "docs/records" / f"{_kind(model)}.md", page(model)
    for name, text in row_pages.pages():
        yield ROOT / "docs/records" / f"{name}.md", text


def page(model: type[BaseModel]) -> str:
    """Write a record's page: each part a table of field, type, default, meaning."""
    schema = model.model_json_schema()
    parts = {model.__name__: schema, **schema.get("$defs", {})}
    text = [f"# {_kind(model)}\n", "Generated from `contracts/` by `make schemas`.\n"]
    for name, part in parts.items():
        text += [f"## {name}\n", f"{part.get('description', '').splitlines()[0] if part.get('description') else ''}\n"]
        if not part.get("properties"):
            continue
        text += ["| field | type | default | meaning |", "|---|---|---|---|"]
        required = set(part.get("required", ()))
        for field, spec in part["properties"].items():
            default = "required" if field in required else f"`{json.dumps(spec.get('default'))}`"
            default = default if len(default) <= 60 else "see the part"
            meaning = cell(str(spec.get("description", "")))
            text.append(f"| `{field}` | {type_words(spec)} | {default} | {meaning} |")
        text.append("")
    return "\n".join(text).rstrip() + "\n"


def _kind(model: type[BaseModel]) -> str:
    return str(model.model_fields["record"].default)


def main(arguments: list[str]) -> int:
    """Write the files; with --check return 1 and name those that are out of date."""
    stale = []
    for path, text in generated():
        if path.is_file() and path.read_text() == text:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if "--check" not in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if stale:
        print(("out of date, run `make schemas`: " if "--check" in arguments else "written: ") + ", ".join(stale))
    return int("--check" in arguments and bool(stale))


if __name__ == "__main__":
    if DESCRIBE not in os.environ:
        again = [sys.executable, "-m", "tokenhour.frontdoor.docgen.schemas", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, DESCRIBE: "1"})  # noqa: S606
    sys.exit(main(sys.argv[1:]))
