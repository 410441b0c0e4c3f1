"""The router before the replicas: it goes around a dead one, and never through a proxy."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable

import psutil
import pytest

from tests.serving.conftest import KEY, Up, routers
from tokenhour.contracts.records.server import Server

pytestmark = pytest.mark.system


def test_traffic_goes_on_when_one_of_two_replicas_dies_and_it_comes_back(up: Callable[..., Up]) -> None:
    """The surviving replica serves alone, restarts bring back the lost replica or router, and `down` still drains."""
    server = up(replicas=2, operations={"restart": {"max_restarts": 3, "backoff_s": 1.0}})
    server.start()
    record = Server.read(server.run.path)
    assert len(record.replicas) == 2
    assert record.router.startswith("vllm-router")
    assert {json.loads(server.ask())["port"] for _ in range(20)} == {
        int(replica.base_url.rsplit(":", 1)[1]) for replica in record.replicas
    }
    victim = server.state().replicas[0]
    os.kill(victim.pid, signal.SIGKILL)
    survivor = int(record.replicas[1].base_url.rsplit(":", 1)[1])
    assert {json.loads(server.ask())["port"] for _ in range(20)} == {survivor}
    assert server.until(lambda s: s.state == "degraded").replicas[1].state == "ready"
    server.until(lambda s: s.state == "ready" and s.replicas[0].pid not in {None, victim.pid})
    deadline = time.monotonic() + 45
    while json.loads(server.ask())["port"] == survivor:
        assert time.monotonic() < deadline, "the router takes the new one back"
    for child in psutil.Process(routers(server)[0]).children():
        child.kill()
    server.until(lambda s: s.state == "degraded" and all(replica.state == "ready" for replica in s.replicas))
    server.until(lambda s: s.state == "ready")
    answers = []
    stream = threading.Thread(target=lambda: answers.append(server.ask(stream=True, max_tokens=40, interval_s=0.02)))
    stream.start()
    time.sleep(0.3)
    assert server.command("down", "toy-w8a8").returncode == 0
    stream.join(60)
    assert answers[0].rstrip().endswith("data: [DONE]"), "the router outlived the engine's last answer"


def test_behind_a_proxy_nothing_of_ours_goes_there(up: Callable[..., Up]) -> None:
    """Neither the probes nor the router's requests, and the key with them."""
    with socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))
        proxy.listen()
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        names = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
        environment = {**dict.fromkeys(names, url), "no_proxy": "", "NO_PROXY": "", "MY_KEY": KEY}
        server = up("keyed", replicas=2, environment=environment, operations={"api_key_env": "MY_KEY"})
        server.start()
        assert "Paris" in server.ask(key=KEY)
        proxy.settimeout(0)
        with pytest.raises(BlockingIOError):
            proxy.accept()
