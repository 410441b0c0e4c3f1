"""The texts and prompts that calibration and evaluation read."""
