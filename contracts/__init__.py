"""The nouns every stage speaks: records, units, errors and the run folder. Imports no stage."""
