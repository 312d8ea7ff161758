"""Figures of the running stack; never part of a test."""
