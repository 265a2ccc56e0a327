"""Read candles, ledger, revisions and universe, of a store or of a lake alike."""
