"""Things several test packages share; imported as `support.<module>`."""
