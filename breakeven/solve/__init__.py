"""One run against each API: crossings, savings, the recommendation and its reasons."""
