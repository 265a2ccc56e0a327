"""Where the exchange's wing and the storage wing meet."""
