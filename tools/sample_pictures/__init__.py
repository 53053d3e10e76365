"""The drawing code of the demo's pictures."""
