"""The recorder is stopped at any moment; nothing may get lost without a word."""
