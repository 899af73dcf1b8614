"""What the model is asked about a picture, from what a person gave to the words themselves."""
