"""The arithmetic of cost: pure functions of numbers, no files, no clock."""
