"""What stands before the replicas: vLLM's own router, as a process under a guardian like an engine.

Why this one: it comes as a wheel (no root, no daemon), checks each replica's /health, sends a failed request to another
replica, and knows policies that nginx and HAProxy do not: the same prefix to the same replica. Its own admin endpoints
(workers can be added there) are why it only ever listens on loopback; the front stands before it for anybody else.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import metadata

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.errors import InputError
from tokenhour.serving.launch.argv import Launch, base_url

PACKAGE = "vllm-router"
# Its HTTP client follows the machine's proxy settings, for 127.0.0.1 as well: requests and the key in them stay here.
_DIRECT = dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,::1,localhost")


def router_version() -> str:
    """Name the installed router; InputError when it is not installed."""
    try:
        return f"{PACKAGE} {metadata.version(PACKAGE)}"
    except metadata.PackageNotFoundError as error:
        raise InputError(
            "several replicas need vllm-router", where="serving.replicas", remedy="make setup, or pip install vllm-router"
        ) from error


def plan_router(
    experiment: Experiment,
    upstreams: Sequence[str],
    host: str,
    ports: tuple[int, int],
    model_id: str,
    secrets: Mapping[str, str],
) -> Launch:
    """Return the router's launch before `upstreams`. `ports` are its own and that of its metrics."""
    serving = experiment.serving
    most = 4 * serving.replicas * serving.max_num_seqs
    argv = (
        *(sys.executable, "-m", "vllm_router.launch_router", "--worker-urls", *upstreams),
        *("--host", host, "--port", str(ports[0]), "--prometheus-host", "127.0.0.1", "--prometheus-port", str(ports[1])),
        # The same prefix to the same replica where prefixes are cached; else to the less busy of two.
        *("--policy", "cache_aware" if serving.prefix_caching else "power_of_two"),
        *("--health-check-interval-secs", "1", "--health-check-timeout-secs", "2", "--health-failure-threshold", "1"),
        *("--health-success-threshold", "1", "--worker-startup-timeout-secs", str(int(serving.ready_timeout_s))),
        *("--worker-startup-check-interval", "1", "--request-timeout-secs", "3600"),
        # The engines queue by themselves: the router must not be the narrower place.
        *("--max-concurrent-requests", str(max(most, 10_000)), "--queue-size", "10000", "--queue-timeout-secs", "600"),
        # One refused connection takes a replica out until it is tried again, so that the retry goes to another one.
        *("--cb-failure-threshold", "1", "--cb-timeout-duration-secs", "2", "--cb-success-threshold", "1"),
        *("--retry-max-retries", "5", "--log-level", "warning"),
    )
    return Launch(argv, _DIRECT, base_url(host, ports[0]), model_id, secrets)
