"""How vLLM runs, as far as it is counted."""

from tokenhour.contracts.config.serving import ServingSpec


def test_a_replicas_gpus_are_the_product_of_its_parallel_sizes() -> None:
    """Replicas are not counted in: each of them takes so many."""
    spec = ServingSpec(tensor_parallel_size=2, pipeline_parallel_size=3, data_parallel_size=4, replicas=5)
    assert spec.gpus_per_replica() == 24
    assert ServingSpec().gpus_per_replica() == 1
