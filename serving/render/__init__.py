"""Deployment files: compose, Kubernetes, HAProxy, monitoring, LiteLLM."""
