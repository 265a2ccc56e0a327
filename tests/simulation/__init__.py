"""Months of virtual time."""
