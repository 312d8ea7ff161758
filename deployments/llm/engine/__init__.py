"""The engine port, its fake, and torch behind it; torch and its kin are imported in this room alone."""
