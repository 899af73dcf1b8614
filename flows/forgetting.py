"""Lets go of what Prefect keeps of every task run until its flow run ends.

An event that would cancel it, and for each part of its result the state that this came with, by
which it knows what depends on what: about ten kilobytes a picture.
"""

from uuid import UUID

from prefect.context import FlowRunContext


def forget(*task_run_ids: UUID) -> None:
    """Drop what is kept of these task runs, which have ended; nobody will use their results."""
    context = FlowRunContext.get()
    if context is None:
        return
    for key, (state, *_) in list(context.run_results.items()):
        if state.state_details.task_run_id in task_run_ids:
            context.run_results.pop(key, None)
    events = getattr(context.task_runner, "_cancel_events", {})  # of ThreadPoolTaskRunner
    for task_run_id in task_run_ids:
        events.pop(task_run_id, None)


def forget_all() -> None:
    """Drop what is kept of all results so far; a list of pictures is an entry for each."""
    if context := FlowRunContext.get():
        context.run_results.clear()
