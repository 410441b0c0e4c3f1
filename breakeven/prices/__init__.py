"""Price tables: read, checked, listed, imported."""
