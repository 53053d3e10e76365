"""The AI side of the pipeline: what turns pictures into embeddings and attributes."""
