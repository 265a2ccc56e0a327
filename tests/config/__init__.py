"""Tests of single sections of `recorder.toml`."""
