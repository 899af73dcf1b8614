"""The flow, and what only a run of it needs."""
