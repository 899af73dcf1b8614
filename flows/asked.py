"""What a run was asked: its groups of settings, and of its deployment's what they leave open.

Prefect replaces a deployment's parameter whole: who gives `prompts` with a user prompt alone would
lose the deployment's system prompt. Knows nothing of what the settings mean.
"""

from collections.abc import Iterable
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from pydantic import BaseModel

from captioner.settings import GROUPS, Settings
from captioner.text import listed
from tasks.artifacts import failing_softly

NAMES = {kind: name for name, kind in GROUPS.items()}


def asked(*groups: BaseModel) -> Settings:
    """The settings of the groups. In a run of a deployment, a group that was given in part takes
    the rest from the deployment; the log and the run's parameters say so."""
    partly = [group for group in groups if 0 < len(group.model_fields_set) < len(list(group))]
    context = FlowRunContext.get()
    flow_run = context.flow_run if context else None
    if not partly or not flow_run or not flow_run.deployment_id:
        return Settings.of(*groups)
    whole = {type(group): group for group in groups}
    with failing_softly("What the deployment has for the settings that were left out"):
        whole |= _completed(partly, flow_run.deployment_id, flow_run.id, flow_run.parameters)
    return Settings.of(*whole.values())


def _completed(
    partly: Iterable[BaseModel], deployment: UUID, run: UUID, parameters: dict[str, object]
) -> dict[type[BaseModel], BaseModel]:
    """The groups with what the deployment has for the settings that they leave open."""
    completed: dict[type[BaseModel], BaseModel] = {}
    taken: list[str] = []
    with get_client(sync_client=True) as client:
        defaults = client.read_deployment(deployment).parameters
        for group in partly:
            kind, given = type(group), group.model_dump(exclude_unset=True)
            merged = kind.model_validate((defaults.get(NAMES[kind]) or {}) | given)
            if merged != group:
                completed[kind] = merged
                fields = kind.model_fields.items()
                changed = [n for n, _ in fields if getattr(merged, n) != getattr(group, n)]
                taken += [str(kind.model_fields[name].title) for name in changed]
        if taken:
            get_run_logger().info("Left out, so as the deployment has it: %s", listed(taken, 20))
            shown = {NAMES[kind]: m.model_dump(mode="json") for kind, m in completed.items()}
            client.update_flow_run(run, parameters=parameters | shown)
    return completed
