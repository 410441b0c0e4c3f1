"""The idle front as a process of its own, as it is in a supervisor: python -m benchmarks.front_process PORT UPSTREAM_PORT"""

import sys
import time

from tokenhour.serving.proxy.server import FrontSpec, front

if __name__ == "__main__":
    port, upstream = sys.argv[1:]
    with front(FrontSpec("127.0.0.1", int(port), f"http://127.0.0.1:{upstream}", "toy")):
        time.sleep(3600)
