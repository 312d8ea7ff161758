"""The process that trains: one job's folder in, adapter, metrics and checkpoints out."""
