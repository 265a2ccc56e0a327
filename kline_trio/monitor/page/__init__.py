"""The web page of a recorder or a store: its files, and the API that they use."""
