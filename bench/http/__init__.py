"""The HTTP client of the load: sockets, TLS, one event loop."""
