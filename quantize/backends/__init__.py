"""The libraries that quantize, one file each; everything heavy is imported inside functions."""
