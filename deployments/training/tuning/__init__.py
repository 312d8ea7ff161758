"""The fine-tuning API of a provider: port, OpenAI adapter, fake."""
