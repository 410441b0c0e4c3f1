"""Arithmetic over request rows: latency metrics, verdicts on a probe, the search for the capacity."""
