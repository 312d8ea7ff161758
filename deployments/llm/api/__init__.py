"""OpenAI's shapes as plain data and rules: what a request means, how an answer looks."""
