"""The rows of the demo: a marketplace with pictures, users with faces, job postings, and projects for packs."""
