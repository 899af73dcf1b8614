"""MergeShards: the figures of all shards together, and what they noted in one place."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from captioner.output.gathering import Gathering
from captioner.run import Run
from captioner.text import listed, printable


@task(task_run_name="merge_shards", cache_policy=NO_CACHE)
def merge_shards(run: Run, gathering: Gathering) -> None:
    """Move what the shards noted into provenance.jsonl; after WriteSummary, so that a merge that is
    cut off begins again.

    Raises:
        OutputError: something cannot be read or written.
    """
    gathering.merge()
    if len(revisions := gathering.revisions()) > 1:
        get_run_logger().warning(
            "The machines have different revisions of the model (%s): captions of one folder "
            "should come from one. Fetch the newest on each with `hf download`.",
            listed(printable(each[:12]) for each in sorted(revisions)),
        )
