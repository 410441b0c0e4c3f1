"""The names under which a record lists the inputs that it stands on: each prefix once."""

SUMMARY_PREFIX = "summary:"
IDLE_PREFIX = "idle:"
