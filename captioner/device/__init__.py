"""The MLX device: the one room that imports `mlx` and `mlx_vlm`, and only inside functions."""
