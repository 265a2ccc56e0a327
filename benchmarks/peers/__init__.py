"""Other programs that do the same work: each module is one, started by the benchmarks.

They run in environments of their own, which have no kline_trio, so they import nothing of it.
"""
