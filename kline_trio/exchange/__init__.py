"""All that is Binance, and nothing of ours: no store, no configuration, no policy."""
