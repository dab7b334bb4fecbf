"""What the service is compared with, each a few lines and started as its makers advise: one process, no logging."""
