"""Pictures that macOS has moved to iCloud, seen before a model is loaded for them.

Looks at no more than the flags of their files, so none is fetched. Knows nothing of runs.
"""

from collections.abc import Sequence

from captioner.errors import InputError
from captioner.macos import is_evicted, may_fetch
from captioner.records import Job


def evicted(jobs: Sequence[Job]) -> list[str]:
    """The labels of the pictures that have to be fetched before they can be read.

    Raises:
        InputError: all of them have, and this process may not.
    """
    labels = [job.picture.label for job in jobs if is_evicted(job.picture.path)]
    if labels and len(labels) == len(jobs) and not may_fetch():
        raise InputError(
            f"All pictures to caption ({len(labels)}) are in iCloud and not on this Mac, and this "
            "process may not fetch them: choose Download Now in Finder, or set "
            "MaterializeDatalessFiles as docs/mac.md says."
        )
    return labels
