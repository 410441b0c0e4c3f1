"""One file a scheme: how its checkpoint is made and loaded."""
