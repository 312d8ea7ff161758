"""The local stack: `make up` without containers."""
