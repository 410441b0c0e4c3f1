"""The generator measured against a server whose times are known."""
