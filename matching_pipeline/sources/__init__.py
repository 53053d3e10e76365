"""The app's tables: jobs that are queued for their rows, and what is deleted after their rows are gone."""
