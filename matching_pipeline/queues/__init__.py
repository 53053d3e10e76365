"""The queue's client and the worker."""
