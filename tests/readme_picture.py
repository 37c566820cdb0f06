"""Makes the README's picture in a real browser: `PYTHONPATH=. python tests/readme_picture.py [PROMPT SCALE SEED]`.

It starts the app with what is shipped, designs one prompt before GRPO, after it and guided, side by side with equal
chance, and photographs the three cards into assets/guidance.png.
"""

import sys
from concurrent.futures import Future
from typing import Any

from conftest import find_browser, free_port
from playwright.sync_api import sync_playwright

from flowdesign.catalog import ROOT
from flowdesign.ui import build_app, launch, open_in_background
from flowdesign.ui.critics import Critics

PROMPT, SCALE, SEED = "a red star left of a blue heart, night style", "2", "1"


def main(prompt: str = PROMPT, scale: str = SCALE, seed: str = SEED) -> None:
    """Design, photograph."""
    opening, critics, port = Future[Any](), Critics(), free_port()
    app = build_app(opening, critics=critics)
    launch(app, server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True)
    open_in_background(opening, critics)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1800, "height": 900})
        page.set_default_timeout(300_000)
        page.goto(f"http://127.0.0.1:{port}/?__theme=light")
        page.wait_for_selector("text=Ready")
        page.fill("#fd-prompt textarea", prompt)
        page.fill("#fd-seed textarea, #fd-seed input", seed)
        page.uncheck("#fd-random input")
        page.fill("#fd-count input[type=number]", "1")
        page.fill("#fd-guidance input[type=number]", scale)
        page.press("#fd-guidance input[type=number]", "Tab")
        page.check("#fd-side input")
        page.click("#fd-design")
        page.wait_for_function("document.querySelectorAll('.fd-card .fd-picture img').length === 3")
        page.wait_for_timeout(1000)
        page.locator("#fd-results").screenshot(path=ROOT / "assets" / "guidance.png")
        browser.close()
    app.close(verbose=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
