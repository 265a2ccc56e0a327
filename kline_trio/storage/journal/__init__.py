"""The journal: SQLite tables of accepted candles, gaps, revisions and the list of files."""
