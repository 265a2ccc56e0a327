"""Hostile bytes for the sieve and for the decoder of frames: `python -m tests.fuzzing --help`."""
