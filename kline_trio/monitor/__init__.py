"""Statistics made visible: health, metrics and alerts. It reads, and never steers."""
