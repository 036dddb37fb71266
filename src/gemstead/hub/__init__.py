"""Models by name: what exists, what is on this disk already, fetching, sharing and removing it."""
