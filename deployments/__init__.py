"""One package per deployment; none imports another."""
