"""What is done to the jobs of each queue."""
