"""What every response carries, whoever answered it."""
