"""Delta tables on object storage, which recorders publish to and engines query."""
