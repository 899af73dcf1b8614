"""The gallery, served to one person on this machine, who can correct captions in it."""
