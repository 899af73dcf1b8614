"""The output folder: the one room that knows what its files are called."""
