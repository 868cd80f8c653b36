"""How processes are started, find each other, and fail together."""
