"""The providers that need no key and no network."""
