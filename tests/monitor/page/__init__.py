"""Tests of the web page, besides those in a browser."""
