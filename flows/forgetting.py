"""Lets go of what Prefect keeps of every task run until its flow run ends.

An event that would cancel it, and for each part of its result the state that this came with, by
which it knows what depends on what: about ten kilobytes a picture.
"""

from collections.abc import Iterable
from uuid import UUID

from prefect.context import FlowRunContext


def forget(task_run_ids: Iterable[UUID]) -> None:
    """Drop what is kept of these task runs, which have ended; nobody will use their results.

    It looks at all that is kept, so a chunk of them at a time is cheaper than one by one.
    """
    context = FlowRunContext.get()
    if context is None:
        return
    ended = set(task_run_ids)
    for key, (state, *_) in list(context.run_results.items()):
        if state.state_details.task_run_id in ended:
            context.run_results.pop(key, None)
    events = getattr(context.task_runner, "_cancel_events", {})  # of ThreadPoolTaskRunner
    for task_run_id in ended:
        events.pop(task_run_id, None)


def forget_all() -> None:
    """Drop what is kept of all results so far; a list of pictures is an entry for each."""
    if context := FlowRunContext.get():
        context.run_results.clear()
