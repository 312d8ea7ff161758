"""Engines by role: the ports, their fakes, and one folder for each engine."""
