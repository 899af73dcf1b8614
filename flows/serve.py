"""`python -m flows.serve`: see `flows/hosting/serve.py`."""

from flows.hosting.serve import main

if __name__ == "__main__":
    raise SystemExit(main())
