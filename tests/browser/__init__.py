"""The report's page in a real browser. `make test-browser` brings a Chromium where none is."""
