"""The model registry behind one port: MLflow, and a fake beside it."""
