"""The records that a run leaves, one file a kind."""
