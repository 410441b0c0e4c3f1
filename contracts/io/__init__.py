"""Files read and written: atomically, as YAML, as data that came with the package."""
