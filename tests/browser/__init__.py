"""A real Chromium drives the monitor's page, against whole programs.

`python -m tests.browser.screenshots` makes the pictures of README and docs.
"""
