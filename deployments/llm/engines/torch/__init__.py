"""torch and transformers: the reference, the trainer and the engine of a GPU, in an environment of their own."""
