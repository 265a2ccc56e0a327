"""The documentation does what it says: each block runs, each option is there, the site builds."""
