"""Benchmarks: this flow beside the other ways to caption a folder with mlx-vlm, in one run."""
