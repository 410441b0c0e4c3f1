"""Open weights to INT8 and INT4 checkpoints, with the quality loss beside the size."""
