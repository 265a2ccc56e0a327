"""Tests of the lake, and the object stores that they start."""
