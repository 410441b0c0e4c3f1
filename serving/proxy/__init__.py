"""What clients reach: allow-list, key, queue, and sleep when idle."""
