"""What a probe writes: frames while the clock runs, rows and tables after it."""
