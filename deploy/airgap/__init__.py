"""Carrying the environments onto a machine without network: pack, assemble, prune. Standard library only."""
