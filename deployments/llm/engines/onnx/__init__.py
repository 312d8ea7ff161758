"""Embeddings and reranking on ONNX Runtime: BERT-like encoders from safetensors or ONNX files, without torch."""
