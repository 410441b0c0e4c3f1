"""A checkpoint as a supervised vLLM server. vLLM runs in its own environment and is never imported."""
