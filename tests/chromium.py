"""Which Chromium the browser tests drive: one of the system, or one that Playwright installed.

`python -m tests.chromium` makes sure that there is one, before any test runs. This module knows
nothing of Prefect or of the tests.
"""

import functools
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Error, Playwright, sync_playwright

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "microsoft-edge",
    "microsoft-edge-stable",
)
APPLICATIONS = ("Google Chrome", "Chromium", "Microsoft Edge")  # on a Mac
ARGUMENTS = (
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing leaves the machine
)
APT_GET = "apt-get install --yes --no-install-recommends chromium fonts-dejavu"
DOES_NOT_START = "installed one that does not start"


@functools.cache
def find_chromium() -> str | None:
    """The first that starts and draws letters; not to be asked within a `sync_playwright`."""
    with sync_playwright() as playwright:
        return next((path for path in _candidates(playwright) if _works(playwright, path)), None)


def _candidates(playwright: Playwright) -> Iterator[str]:
    yield from filter(None, map(shutil.which, NAMES))
    for folder in (Path("/Applications"), Path.home() / "Applications"):
        for name in APPLICATIONS:
            yield str(folder / f"{name}.app" / "Contents" / "MacOS" / name)
    yield playwright.chromium.executable_path  # where it would be


def _works(playwright: Playwright, path: str) -> bool:
    """Ubuntu's `chromium-browser` may be a note about snap, and a download lack its libraries."""
    if not Path(path).is_file():
        return False
    try:
        with playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS)) as browser:
            page = browser.new_page()
            page.set_content("<span>letters</span>")
            return bool(page.locator("span").evaluate("span => span.offsetWidth"))
    except Error:
        return False


def _packaged() -> bool:
    """Whether apt-get has one: Ubuntu's package is a note about snap."""
    try:
        system = platform.freedesktop_os_release()["ID"]
    except OSError:  # no Linux
        return False
    return system != "ubuntu" and shutil.which("apt-get") is not None


def _installers() -> Iterator[tuple[str, list[str]]]:
    """What may install one here, and the command of each."""
    if os.geteuid() == 0 and _packaged():
        yield "apt-get", ["sh", "-c", f"apt-get update && {APT_GET}"]
    # as root on Debian and Ubuntu, also the libraries that the download needs
    libraries = ["--with-deps"] if os.geteuid() == 0 and shutil.which("apt-get") else []
    yield "Playwright", [sys.executable, "-m", "playwright", "install", *libraries, "chromium"]


def _install(command: list[str]) -> str:
    """Why there is none after `command`; empty when there is one."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    run = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    find_chromium.cache_clear()
    if find_chromium():
        return ""
    errors = [line for line in run.stdout.splitlines() if line.startswith(("E: ", "Error: "))]
    why = errors[0].partition(": ")[2] if errors else f"status {run.returncode}"
    return f"failed ({why})" if run.returncode else DOES_NOT_START


def _advice(fault: str) -> str:
    if _packaged():
        return f"run `sudo {APT_GET}`"
    if fault == DOES_NOT_START:
        return f"run `sudo {sys.executable} -m playwright install-deps chromium`"
    return "install Chrome, Chromium or Edge"


def main() -> int:
    """Find one or install one; otherwise say in one sentence why not and what to do."""
    if find_chromium():
        return 0
    faults = {}
    for name, command in _installers():
        print(f"Installing Chromium for the browser tests, with {name}...", flush=True)
        fault = _install(command)
        if not fault:
            return 0
        faults[name] = fault
    said = " and ".join(f"{name} {fault}" for name, fault in faults.items())
    print(
        f"The browser tests need Chromium, and {said}: {_advice(fault)}, then try again.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
