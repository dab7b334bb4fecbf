"""Batches: many requests in one call, each answered as if it had come alone, each recorded."""
