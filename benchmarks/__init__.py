"""Measurements behind the choices of kline_trio, on real archives: `python -m benchmarks`."""
