"""The store under power loss: a model of the disk, fed with the calls of the real code."""
