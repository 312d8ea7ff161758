"""The vector store behind one port: Weaviate, and a fake beside it."""
