"""The page of a recorder: its programming interface, its event stream and its files."""
