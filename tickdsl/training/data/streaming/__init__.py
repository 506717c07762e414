"""Images that are decoded while a training goes on, by processes of their own: they need not fit into memory."""
