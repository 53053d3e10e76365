"""What belongs together: pure functions over arrays and lists, without Dagster and without Postgres."""
