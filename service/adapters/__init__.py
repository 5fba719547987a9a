"""What the service knows about model families."""
