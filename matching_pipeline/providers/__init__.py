"""Providers, a protocol a capability; the record of what was asked and answered."""
