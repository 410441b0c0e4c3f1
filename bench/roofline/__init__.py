"""How far a run was from what the machine can do."""
