"""Commands that are made of the recorder's parts; the recorder knows nothing of them."""
