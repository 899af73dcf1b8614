"""Captioning in plain Python: it knows nothing of Prefect. Lower rooms never import higher ones;
docs/architecture.md draws them."""
