"""The store under kill -9 and failing calls, at every call that it makes of the disk."""
