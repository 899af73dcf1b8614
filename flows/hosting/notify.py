"""`python -m flows.notify URL`: a message to a webhook whenever a run is to be looked at.

It makes the automations of the files in `automations/`, through Prefect's public API: a message
when a run fails, which one with a failed caption does, crashes, or has flagged captions; and a run
that gives no sign of life any more crashes. It knows nothing of what went wrong; the run's state
says that.
"""

import argparse
import json
import os
from typing import TYPE_CHECKING, Any

from flows.hosting.deploying import ROOT, make_automation

if TYPE_CHECKING:
    from prefect.events.schemas.automations import AutomationCore

BLOCK = "caption-images-webhook"
FILES = ("crashed.yaml", "message.yaml")
# in the file, which cannot know the server's address
NO_LINK = '{% set link = "" %}'


def main() -> None:
    """Make the automations, or send the messages of those that are there to another address."""
    parser = argparse.ArgumentParser(
        description="Send a message whenever a captioning run fails or has flagged captions."
    )
    parser.add_argument("url", help="a webhook, such as https://hooks.slack.com/services/…")
    url = parser.parse_args().url
    if not is_address(url):
        parser.error("the address must begin with https:// or http://")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        parser.error("there is no server to keep the automations: set PREFECT_API_URL")
    for name in notify(url):
        print(f"{name!r} is on; change or remove it under Automations in the UI.")


def is_address(url: str) -> bool:
    """Whether messages can be sent there."""
    return url.startswith(("http://", "https://"))


def notify(url: str) -> list[str]:
    """Make the automations, whose messages go to `url`, or change those that are there; their
    names."""
    from prefect.blocks.webhook import Webhook
    from prefect.client.orchestration import get_client

    webhook = Webhook(url=url, headers={"Content-Type": "application/json"})
    block = webhook.save(BLOCK, overwrite=True)
    made = []
    with get_client(sync_client=True) as client:
        for file in FILES:
            automation = _automation(file, str(block))
            make_automation(client, automation)
            made.append(automation.name)
    return made


def _automation(file: str, block: str) -> "AutomationCore":
    """The automation of a file, which calls the webhook and links to this server's pages."""
    import yaml  # type: ignore[import-untyped]
    from prefect.events.schemas.automations import AutomationCore
    from prefect.settings import PREFECT_UI_URL

    values: dict[str, Any] = yaml.safe_load((ROOT / "automations" / file).read_text("utf-8"))
    page = json.dumps(f" {PREFECT_UI_URL.value()}/runs/flow-run/")
    for action in values["actions"]:
        if action["type"] == "call-webhook":
            action["block_document_id"] = block
            link = f"{{% set link = {page} ~ flow_run.id %}}"
            action["payload"] = action["payload"].replace(NO_LINK, link)
    return AutomationCore.model_validate(values)


if __name__ == "__main__":
    main()
