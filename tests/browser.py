"""Headless Chromium looks at Prefect's UI.

    with Browser(prefect_ui) as browser:
        page = browser.open(f"/runs/flow-run/{flow_run_id}")
        page.get_by_text("caption a.png").wait_for()
        browser.keep("flow-run")

Playwright keeps an event loop running in the thread of the `with`, in which Prefect would then
refuse to run a flow: run flows before or after it, or in another process.
"""

from pathlib import Path
from types import TracebackType
from typing import Self

from playwright.sync_api import Page, Request, sync_playwright

from tests.chromium import ARGUMENTS, ENVIRONMENT, find_chromium

SCREENSHOTS = Path(__file__).parent / "screenshots"  # git-ignored; CI keeps them
TIMEOUT_MS = 30_000
SIZE = (1280, 900)


class Browser:
    """A browser with one page, for as long as a `with` lasts."""

    def __init__(self, ui_url: str) -> None:
        self.base = ui_url
        self.asked: list[str] = []  # addresses that a page wanted from elsewhere, in vain
        self.errors: list[str] = []  # of scripts in the page

    def __enter__(self) -> Self:
        executable = find_chromium()
        if executable is None:
            raise RuntimeError("The browser tests need Chromium: python -m tests.chromium")
        self._playwright = sync_playwright().start()
        self._chromium = self._playwright.chromium.launch(
            executable_path=executable, args=list(ARGUMENTS), env=ENVIRONMENT
        )
        self.page = self._chromium.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
        self.page.set_default_timeout(TIMEOUT_MS)
        self.page.on("request", self._ask)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.keep("failure")
        self._chromium.close()
        self._playwright.stop()

    def open(self, path: str, version: str = "v2") -> Page:
        """The page at `path` of the UI: the new one (v2, the default of 3.9) or the old (v1)."""
        self.page.goto(self.base + ("/v2" if version == "v2" else "") + path)
        return self.page

    def window(self) -> Page:
        """A second window, which shares nothing with the first."""
        return self._chromium.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})

    def keep(self, name: str, full_page: bool = False) -> Path:
        """A screenshot of what the page shows, in the folder that CI keeps."""
        SCREENSHOTS.mkdir(exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        self.page.screenshot(path=path, full_page=full_page)
        return path

    def _ask(self, request: Request) -> None:
        if not request.url.startswith((self.base, "data:", "blob:")):
            self.asked.append(request.url)
