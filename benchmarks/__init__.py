"""How fast metareplay is, beside the same algorithms written plainly and well in PyTorch: ``python -m benchmarks``."""
