"""The report: one page for a decision-maker, a place to play with the assumptions, and the same as files for other tools."""
