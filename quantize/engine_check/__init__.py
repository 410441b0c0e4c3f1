"""The same quality check through the engine that will serve the checkpoint."""
