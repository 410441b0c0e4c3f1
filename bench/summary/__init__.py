"""From raw records to the summary: load points, capacity, validity, notes."""
