"""`python -m flows.fleet`: one folder, captioned by the workers of a work pool; what it is in a
terminal.

The same flags, lines and exit codes as the command for one machine, and `--shards`. It knows
nothing of how shards come to machines.
"""

import os
import sys

from flows.hosting.starting import CANNOT_START
from flows.hosting.terminal import begin, run

# as in prefect.yaml: what automations/lost.yaml knows the run by, and of which it waits for four
TAG, HEARTBEAT_SECONDS = "fleet", "30"


def main() -> int:
    """Caption the folder; returns the exit code."""
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", HEARTBEAT_SECONDS)
    command = begin("FleetCommandLine")
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        print(
            "There is no Prefect server that the machines share: start one with `prefect server "
            "start` and set PREFECT_API_URL (docs/several-macs.md).",
            file=sys.stderr,
        )
        return CANNOT_START
    from prefect import tags

    from flows.fleet_flow import fleet_flow

    with tags(TAG):
        return run(fleet_flow, command)
