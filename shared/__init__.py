"""What more than one deployment needs, and nothing else."""
