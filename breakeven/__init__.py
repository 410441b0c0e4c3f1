"""Measured capacity against dated prices: the verdict and its report. Light: no torch, vllm, locust or gevent."""
