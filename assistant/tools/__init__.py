"""Tools that models and callers may call."""
