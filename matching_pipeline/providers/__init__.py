"""Providers, a protocol for each capability; the call log and the answer cache."""
