"""Checkpoints: found, looked through, downloaded, and held against the memory of this machine."""
