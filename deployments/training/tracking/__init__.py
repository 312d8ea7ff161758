"""Experiment tracking of training runs: port, MLflow adapter, fake."""
