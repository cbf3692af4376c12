"""Tiny ONNX exports of Llama, and what onnxruntime and PyTorch compute with them."""
