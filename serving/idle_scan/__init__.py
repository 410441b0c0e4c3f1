"""Servers and GPUs that cost money and do nothing."""
