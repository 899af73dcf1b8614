"""Captions in the forms that other programs read: made from a finished output folder."""
