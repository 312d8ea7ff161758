"""Chat on llama.cpp, through xllamacpp: one process, adapters applied per request, any CPU of the last ten years."""
