"""What a run was asked: its groups of settings, of its deployment's what they leave open, and where
things are on this machine.

Prefect replaces a deployment's parameter whole: who gives `prompts` with a user prompt alone would
lose the deployment's system prompt. Knows nothing of what the settings mean.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from pydantic import BaseModel

from captioner.settings import GROUPS, Settings
from captioner.text import listed, printable
from tasks.artifacts import failing_softly

PLACES = ("input_dir", "output_dir", "model")
NAMES = {kind: name for name, kind in GROUPS.items()}


def asked(*groups: BaseModel, several_machines: bool = False) -> Settings:
    """The settings of the groups. In a run of a deployment, a group that was given in part takes
    the rest from the deployment; the log and the run's parameters say so. Where `several_machines`
    caption one folder, and in a shard of it, places are those of this machine.

    The forms give every group, and leave out nothing but what somebody has emptied.
    """
    context = FlowRunContext.get()
    flow_run = context.flow_run if context else None
    if not flow_run or not flow_run.deployment_id:
        return Settings.of(*groups)
    settings = Settings.of(*_whole(groups, flow_run, flow_run.deployment_id))
    settings = settings if settings.shard else settings.from_a_form()  # a fleet knows what is given
    return _on_this_machine(settings) if settings.shard or several_machines else settings


def _on_this_machine(settings: Settings) -> Settings:
    """The settings with the places that this worker's environment names: one folder of several
    machines has a path of its own on each."""
    named = {name: value for name in PLACES if (value := os.environ.get(f"CAPTION_{name.upper()}"))}
    if named:
        shown = ", ".join(f"{name} {printable(value)}" for name, value in named.items())
        get_run_logger().info("On this machine, by its environment: %s", shown)
    return Settings.model_validate(settings.model_dump(exclude_unset=True) | named)


def _whole(
    groups: tuple[BaseModel, ...], flow_run: FlowRun, deployment_id: UUID
) -> Iterable[BaseModel]:
    """The groups of a deployment's run, with what they leave open."""
    partly = [group for group in groups if 0 < len(group.model_fields_set) < len(list(group))]
    if not partly:
        return groups
    from_a_form = all(group.model_fields_set for group in groups)
    what = "What the deployment has for the settings that were left out"
    with failing_softly(what), get_client(sync_client=True) as client:
        defaults = client.read_deployment(deployment_id).parameters
        completed, taken = _completed(partly, defaults)
        if taken and from_a_form:
            get_run_logger().info("Emptied, which the deployment has: %s", listed(taken, 20))
        elif taken:
            get_run_logger().info("Left out, so as the deployment has it: %s", listed(taken, 20))
            shown = {NAMES[type(group)]: group.model_dump(mode="json") for group in completed}
            client.update_flow_run(flow_run.id, parameters=flow_run.parameters | shown)
            whole = {type(group): group for group in (*groups, *completed)}
            return whole.values()
    return groups


def _completed(
    partly: Iterable[BaseModel], defaults: Mapping[str, Any]
) -> tuple[list[BaseModel], list[str]]:
    """The groups with what the deployment has for the settings that they leave open, and the titles
    of those settings."""
    completed: list[BaseModel] = []
    titles: list[str] = []
    for group in partly:
        kind, given = type(group), group.model_dump(exclude_unset=True)
        merged = kind.model_validate((defaults.get(NAMES[kind]) or {}) | given)
        for name, field in kind.model_fields.items():
            if getattr(merged, name) != getattr(group, name):
                titles.append(str(field.title))
        completed.append(merged)
    return completed, titles
