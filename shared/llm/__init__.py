"""Access to any OpenAI-compatible provider: chat, embeddings and images behind one port."""
