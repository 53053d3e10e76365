"""Fetching within limits, decoding, storing."""
