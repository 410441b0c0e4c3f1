"""The command line, environment and memory of an engine: pure functions."""
