"""One probe on a running server, and its live view."""
