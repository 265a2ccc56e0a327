"""Other projects doing the same work: each module runs in an interpreter with their packages."""
