"""`python -m flows.fleet`: see `flows/hosting/fleet.py`."""

from flows.hosting.fleet import main

if __name__ == "__main__":
    raise SystemExit(main())
