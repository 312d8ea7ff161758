"""The writer's desk: writes posts, shows their sources, takes feedback and answers audits.

It knows no Airflow; it asks both deployments over REST, and the rest through ports.
"""
