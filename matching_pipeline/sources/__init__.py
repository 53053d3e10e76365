"""The app's tables: what is enqueued for them."""
