"""Where events go to: one port, Marquez behind it, and a fake."""
