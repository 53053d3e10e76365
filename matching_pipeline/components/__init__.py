"""What Dagster shows and runs of the declarations. It is the only package that imports Dagster."""
