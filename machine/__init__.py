"""What acts on the host: hardware, processes, files that are locked, HTTP, the terminal."""
