"""The command line. The recorder never imports it."""
