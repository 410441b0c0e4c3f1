"""`tokenhour gpu-proof`: several precisions of one model measured and priced within a time budget."""
