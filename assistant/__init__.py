"""Chat agents, streams and tools for a Django project."""
