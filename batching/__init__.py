"""Batches: many requests in one call, each executed as if it had been sent alone, and each recorded."""
