"""The most memory that a process has had so far, to be asked in a process of its own."""

import resource
import sys
from pathlib import Path


def peak_kilobytes() -> int:
    """Of this process alone: on Linux `ru_maxrss` begins with what the parent had."""
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak
