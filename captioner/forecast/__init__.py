"""What a run would do and cost, said before it begins. Writes nothing, and knows nothing of MLX."""
