"""Other programs that receive candles: each module is one, started by `benchmarks.peering`.

They run in an environment of their own, which has no kline_trio, so they import nothing of it.
"""
