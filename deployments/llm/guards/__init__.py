"""Engines with what a server puts around them: bounds, time limits, an end when nobody waits, and counting."""
