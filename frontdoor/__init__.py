"""What stands at the front door besides the stages: the chain of them, the machine check, the trace, the schemas."""
