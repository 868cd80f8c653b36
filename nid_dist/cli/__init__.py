"""The command line: each module parses its arguments, calls the system and reports errors in one line."""
