"""Which compositions stay within a budget of operations, milliseconds or megabytes."""
