"""Measure what a GPU-hour of your own buys in tokens at your latency objective, and which API it beats."""
