"""ONNX graphs of Llama models: read, recognised by their structure, and presented as GGUF would have them."""
