"""The only package that imports Dagster: a file an asset, with its sensor and checks."""
