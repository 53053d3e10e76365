"""Pictures by URL: fetched within limits, and decoded whatever they turn out to be."""
