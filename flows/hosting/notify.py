"""`python -m flows.notify URL`: a message to a webhook whenever a run fails.

An automation of Prefect's, made through its public API: it fires when a run of the flow fails,
which a run with a failed caption does, or crashes. The message is JSON with one text, as Slack and
Mattermost take it. It knows nothing of what went wrong; the run's state says that.
"""

import argparse
import os

NAME = "caption-images: a run failed"
BLOCK = "caption-images-failed"
FLOW = "caption-images"
EVENTS = {"prefect.flow-run.Failed", "prefect.flow-run.Crashed"}
MESSAGE = (
    '{"text": {{ (flow.name ~ ", " ~ flow_run.name ~ ": " ~ flow_run.state.name ~ ". " '
    '~ (flow_run.state.message or "") ~ " " ~ (flow_run | ui_url)) | tojson }}}'
)


def main() -> None:
    """Make the automation, or send the messages of the one that is there to another address."""
    parser = argparse.ArgumentParser(description="Send a message whenever a captioning run fails.")
    parser.add_argument("url", help="a webhook, such as https://hooks.slack.com/services/…")
    url = parser.parse_args().url
    if not url.startswith(("http://", "https://")):
        parser.error("the address must begin with https:// or http://")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        parser.error("there is no server to keep the automation: set PREFECT_API_URL")
    notify(url)
    print(f"{NAME!r} is on; change or remove it under Automations in the UI.")


def notify(url: str) -> None:
    """Make the automation that calls `url`, or change the one that is there."""
    from prefect.blocks.webhook import Webhook
    from prefect.client.orchestration import get_client
    from prefect.events.actions import CallWebhook
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    webhook = Webhook(url=url, headers={"Content-Type": "application/json"})
    block = webhook.save(BLOCK, overwrite=True)
    automation = AutomationCore(
        name=NAME,
        description="Made by `python -m flows.notify`.",
        trigger=EventTrigger(
            expect=EVENTS,
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": FLOW},
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[CallWebhook(block_document_id=block, payload=MESSAGE)],
    )
    with get_client(sync_client=True) as client:
        if found := client.read_automations_by_name(NAME):
            client.update_automation(found[0].id, automation)
        else:
            client.create_automation(automation)


if __name__ == "__main__":
    main()
