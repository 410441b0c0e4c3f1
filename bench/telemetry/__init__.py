"""What host, engine and GPUs did meanwhile, sampled in a process of its own."""
