"""All that touches the disk: synchronous code that knows no network and no Trio."""
