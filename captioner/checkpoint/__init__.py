"""The room of the checkpoint: where it is, whether it is whole, and how it gets here.

Knows nothing of MLX, pictures or Prefect.
"""
