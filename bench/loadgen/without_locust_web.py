"""To be imported before Locust, which loads its web page, and so Flask, whether wanted or not: a third of its start."""

from __future__ import annotations

import os
import sys
import types

from tokenhour.bench.loadgen.worker_count import WEB_UI_PORT

if not os.environ.get(WEB_UI_PORT):
    sys.modules["locust.web"] = types.ModuleType("locust.web")
    sys.modules["locust.web"].WebUI = None  # type: ignore[attr-defined]
