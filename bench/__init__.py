"""Load on a server: per-request records, telemetry, and tokens per accelerator-hour at the SLO."""
