"""How much a checkpoint lost: logits of both models, statistics over them, tasks, the ladder of precisions."""
