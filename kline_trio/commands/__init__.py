"""Commands that are made of parts of the recorder, which never imports them."""
