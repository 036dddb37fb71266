"""This machine and what it allows: probes, the cost of a step, and measurements of a model against both."""
