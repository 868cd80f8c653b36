"""`faults`."""
