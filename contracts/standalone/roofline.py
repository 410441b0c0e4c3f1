"""How far from the hardware's limits an engine ran: rates measured on the machine itself, never a datasheet's.

History
    1  first version
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from tokenhour.contracts.record import Interval, Part, Record
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.contracts.records.summary import Summary

MatrixType = Literal["bf16", "int8", "fp8"]


class MachineRates(Record):
    """What one accelerator moves and computes at most, as torch measured it here: medians with the middle 95 %."""

    file_name: ClassVar[str] = "machine_rates.json"
    record: Literal["machine-rates"] = "machine-rates"
    version: Literal[1] = 1
    accelerator: Accelerator
    device: Literal["cpu", "cuda"]
    copy_bytes_per_s: Interval
    """Bytes read plus bytes written by a copy that no cache can hold."""
    matrix_ops_per_s: dict[MatrixType, Interval]
    """Of a large square product: 2 n^3 operations over its time, by the type of its operands. On a CPU the faster of that
    type and fp32: one without arithmetic of the type computes it in fp32."""
    absent: dict[MatrixType, str]
    """Types that could not be measured, and why."""
    copied_bytes: int
    """Size of the buffer."""
    matrix_size: int
    """n."""
    torch: str
    seconds: float
    """That the measurement took."""
    created_utc: str


class RooflinePoint(Part):
    """One load of a run beside the machine's rates. Rates are of all accelerators that serve, together."""

    point: Literal["peak", "at the SLO"]
    probe: int
    input_tps: float
    output_tps: float
    step_s: float | None
    """Mean time per output token of a sequence: one decoding step. None where it was not estimable."""
    weight_bytes_per_s: float | None
    """Weights that a step reads / step_s."""
    kv_bytes_per_s: float
    """Keys and values that the output tokens of a second read."""
    bandwidth_utilization: float | None
    """Weight and KV bytes a second over the measured copy bandwidth (MBU)."""
    model_ops_per_s: float
    """Operations that the model needs for the tokens of a second, whatever the engine really spent."""
    ops_utilization: float | None
    """model_ops_per_s over the measured matrix rate (MFU)."""


class Roofline(Record):
    """Model-bandwidth and model-FLOP utilization of a run."""

    file_name: ClassVar[str] = "roofline.json"
    record: Literal["roofline"] = "roofline"
    version: Literal[1] = 1
    run: str
    scheme: str
    model_name: str
    accelerators: int
    """That the rates are multiplied by."""
    copy_bytes_per_s: float
    """Of one accelerator, measured."""
    matrix_type: MatrixType
    """The operands of this scheme's matrix products."""
    matrix_ops_per_s: float | None
    """Of one accelerator, measured; None where this type could not be measured."""
    weight_bytes_per_step: int
    kv_bytes_per_token: int
    ops_per_prompt_token: float
    """Without attention."""
    ops_per_output_token: float
    """Without attention; the vocabulary's layer included."""
    points: tuple[RooflinePoint, ...]
    synthetic: tuple[str, ...]
    """What in the run is not real, as its summary says."""
    inputs: dict[str, str]
    """sha256 of summary.json, checkpoint.json and machine_rates.json."""
    created_utc: str

    @classmethod
    def beside(cls, run: Path) -> Roofline | None:
        """Read the roofline of a run folder; None where there is none, or one of an earlier measurement."""
        if not cls.exists(run) or not Summary.exists(run):
            return None
        found = cls.read(run)
        return found if found.inputs.get(Summary.file_name) == Summary.sha256_in(run) else None

    def sentence(self) -> str:
        """Say the utilizations in a line: "peak: 61 % of copy bandwidth, 12 % of bf16 matrix rate"."""
        return "; ".join(
            f"{p.point}: {_percent(p.bandwidth_utilization)} of copy bandwidth, "
            f"{_percent(p.ops_utilization)} of the {self.matrix_type} matrix rate"
            for p in self.points
        )


def _percent(share: float | None) -> str:
    return "an unknown share" if share is None else f"{share:.1%}"
