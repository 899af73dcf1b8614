"""Which Chromium the browser tests drive: one of the system, or one that Playwright installed.

`python -m tests.chromium` makes sure that there is one, before any test runs. This module knows
nothing of Prefect or of the tests.
"""

import functools
import os
import platform
import re
import shlex
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
# what the tests preload for MLX is not for a browser, which would not start
ENVIRONMENT: dict[str, str | float | bool] = {
    name: value for name, value in os.environ.items() if name != "LD_PRELOAD"
}
PLAYWRIGHT = f"{shlex.quote(sys.executable)} -m playwright"
APT_GET = "apt-get install --yes --no-install-recommends"
OF_NODE = "libatomic1"  # Playwright's Node does not start without it
OF_DEBIAN = f"chromium fonts-dejavu {OF_NODE}"


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
        with playwright.chromium.launch(
            executable_path=path, args=list(ARGUMENTS), env=ENVIRONMENT
        ) as browser:
            page = browser.new_page()
            page.set_content("<span>letters</span>")
            return bool(page.locator("span").evaluate("span => span.offsetWidth"))
    except Error:
        return False


def _fault() -> str:
    """Why the browser tests cannot run here; empty when they can."""
    driver = _run(f"{PLAYWRIGHT} --version")
    if driver.returncode:
        return f"Playwright does not start ({_reason(driver)})"
    find_chromium.cache_clear()
    return "" if find_chromium() else "there is no Chromium that starts and draws letters"


def _has_package() -> bool:
    """Whether apt-get has a Chromium: Ubuntu's is a note about snap."""
    return _apt_get() and platform.freedesktop_os_release()["ID"] != "ubuntu"


def _apt_get() -> bool:
    return shutil.which("apt-get") is not None


def _installer() -> str:
    """The command that installs one."""
    if not (_apt_get() and os.geteuid() == 0):
        return f"{PLAYWRIGHT} install chromium"
    if _has_package():
        return f"apt-get update && {APT_GET} {OF_DEBIAN}"
    return f"apt-get update && {APT_GET} {OF_NODE} && {PLAYWRIGHT} install --with-deps chromium"


def _advice() -> str:
    if _has_package():
        return f"run `sudo {APT_GET} {OF_DEBIAN}`"
    if _apt_get():
        libraries = f"sudo {APT_GET} {OF_NODE} && sudo {PLAYWRIGHT} install-deps chromium"
        return f"run `{libraries}`, or install Google Chrome"
    return "install Chrome, Chromium or Edge"


def _run(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", command],
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _reason(run: subprocess.CompletedProcess[str]) -> str:
    """What apt-get, Playwright or the loader of libraries says first of what went wrong."""
    error = re.search(r"^(?:E|Error): (.+)|(error while loading .+)", run.stdout, re.MULTILINE)
    return error[1] or error[2] if error else f"status {run.returncode}"


def main() -> int:
    """Find one or install one; otherwise say in one sentence why not and what to do."""
    fault = _fault()
    if not fault:
        return 0
    if os.geteuid() == 0 or not fault.startswith("Playwright"):  # it cannot install, then
        command = _installer()
        print(f"Installing Chromium for the browser tests: {command}", flush=True)
        run = _run(command)
        fault = _fault()
        if not fault:
            return 0
        if run.returncode:
            fault += f", and none could be installed ({_reason(run)})"
    print(f"The browser tests cannot run: {fault}; {_advice()}, then try again.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
