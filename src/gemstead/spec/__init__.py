"""What the models are, as data: no weights, no code that runs them. Imports the standard library only."""
