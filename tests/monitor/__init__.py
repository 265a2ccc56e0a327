"""Tests of kline_trio.monitor."""
