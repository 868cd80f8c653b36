"""What a run will need, on paper: parameters, memory, bytes, operations, time."""
