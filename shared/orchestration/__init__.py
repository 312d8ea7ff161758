"""What both Airflow deployments share; the one room in `shared/` that may import airflow."""
