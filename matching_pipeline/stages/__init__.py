"""What is done to the items of each lane, pure of Dagster."""
