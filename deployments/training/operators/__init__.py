"""Airflow operators of the training deployment."""
