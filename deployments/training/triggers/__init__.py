"""Airflow triggers of the training deployment."""
