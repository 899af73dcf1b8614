"""`python -m flows.notify URL`: see `flows/hosting/notify.py`."""

from flows.hosting.notify import main

if __name__ == "__main__":
    main()
