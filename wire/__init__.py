"""What lies between a socket and a view: strict JSON, errors of one shape, request ids, event streams, the server."""

__version__ = "0.1.0"
