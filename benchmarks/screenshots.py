"""The images of docs/monitoring.md: TensorBoard on the runs of a comparison, in Debian's chromium.

    lightning-transfer compare --out comparison
    python -m benchmarks.screenshots --logdir comparison/logs

Needs `chromium` on the PATH, and playwright, which is in the dev extra.
"""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jsonargparse import auto_cli
from PIL import Image
from playwright.sync_api import Locator, Page, expect, sync_playwright

WIDTH = 1200
SECONDS = 60


@contextmanager
def tensorboard(logdir: str) -> Iterator[str]:
    """Start a TensorBoard; yield its address once it has read these logs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = [f"--logdir={logdir}", "--host=127.0.0.1", f"--port={port}"]
    # It answers only once it has read the logs.
    flags += ["--load_fast=false", "--reload_task=blocking", "--reload_interval=0"]
    with subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", *flags], stderr=subprocess.DEVNULL
    ) as process:
        try:
            for _ in range(SECONDS * 5):
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/?darkMode=false"
        finally:
            process.terminate()


def settle(page: Page) -> None:
    """Wait until images have loaded and animations have ended."""
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(3000)


def scalars(page: Page) -> Locator:
    """Show all curves."""
    expect(page.locator("scalar-card").first).to_be_visible()
    page.get_by_label("Ignore outliers in chart scaling").uncheck()
    smoothing = page.locator(".scalars-smoothing input.slider-input")
    smoothing.fill("0")
    smoothing.press("Enter")
    page.wait_for_timeout(2000)
    page.get_by_role("button", name="Settings").click()
    return page.locator("body")


def hparams(page: Page) -> Locator:
    """Show one row per run."""
    expect(page.locator("#sessionGroupsTable").get_by_text("fine_tuning").first).to_be_visible()
    return page.locator("#sessionGroupsTable")


def found(page: Page) -> Locator:
    """Return what an old tab's filter of tags has found."""
    return page.locator("tf-category-paginated-view").filter(has_text="Tags matching")


def images(page: Page) -> Locator:
    """Show the images of all runs."""
    expect(found(page).locator("img").first).to_have_js_property("complete", True)
    return found(page)


def of_fine_tuning(page: Page) -> Locator:
    """Show the images of one run."""
    page.locator("tf-runs-selector input").first.fill("fine_tuning")
    return images(page)


def in_full(page: Page) -> Locator:
    """Show the images of one run, large enough for captions."""
    page.get_by_role("checkbox", name="Show actual image size").click()
    return of_fine_tuning(page)


def precision_recall(page: Page) -> Locator:
    """Show one chart per class."""
    expect(found(page).locator("tf-pr-curve-card")).to_have_count(2)
    return found(page)


def graph(page: Page) -> Locator:
    """Show the graph, expanded down to the stages."""
    for name in ("TransferNetwork", "TransferNetwork/Backbone[backbone]"):
        box = page.locator(f"tf-graph-scene g.node[data-name='{name}']")
        expect(box).to_be_visible()
        box.locator("rect").first.dispatch_event("dblclick")
        page.wait_for_timeout(2000)
    page.get_by_text("Fit to screen").click()
    page.wait_for_timeout(2000)
    page.locator("tf-graph-scene").click(position={"x": 5, "y": 500})  # next to it, so that nothing is selected
    return page.locator("tf-graph-board")


def projector(page: Page) -> Locator:
    """Show the features of fine-tuning, coloured by class."""
    inside = page.frame_locator("iframe").frame_locator("iframe").locator("vz-projector")
    runs = inside.locator("vz-projector-data-panel paper-dropdown-menu").first
    expect(inside).to_contain_text("Points:")
    runs.click()
    runs.locator("paper-item").filter(has_text="fine_tuning").click()
    page.wait_for_timeout(3000)
    inside.locator("#colorby").click()
    inside.locator("#colorby paper-item").filter(has_text="truth").click()
    return page.locator("body")


@dataclass(frozen=True)
class Shot:
    """A tab, the tags to filter, the function that prepares it and returns what to show, the window's size."""

    tab: str
    tags: str
    prepare: Callable[[Page], Locator]
    width: int = 1500
    height: int = 800


SHOTS = {
    "scalars": Shot("timeseries", "^validation/(accuracy|loss)$", scalars, 1200, 600),
    "hparams": Shot("hparams", "", hparams, 1900, 335),
    "confusion_matrix": Shot("images", "^confusion_matrix$", images),
    "wrong_images": Shot("images", "^wrong_images$", in_full, 1300, 1200),
    "feature_maps": Shot("images", "^feature_maps/(block1|block3|last_conv)$", of_fine_tuning),
    "pr_curves": Shot("pr_curves", "^precision_recall", precision_recall, 900, 1130),
    "graph": Shot("graphs", "", graph, 1200, 1000),
    "projector": Shot("projector", "", projector, 1200, 800),
}


def save(png: bytes, path: Path) -> None:
    """Save at page width, with as many colours as fit into 200 kB."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
    for colours in (256, 128, 64):
        image.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size < 200_000:
            break
    print(f"{path}: {image.width} × {image.height}, {path.stat().st_size / 1000:.0f} kB")


def main(logdir: str, out: str = "docs", only: tuple[str, ...] = ()) -> None:
    """Take the screenshots.

    Args:
        logdir: The logs of a comparison.
        out: Where monitoring_<name>.png go.
        only: Some of the names; all if empty.
    """
    expect.set_options(timeout=SECONDS * 1000)
    arguments = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with tensorboard(logdir) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        for name in only or SHOTS:
            shot = SHOTS[name]
            page = browser.new_page(viewport={"width": shot.width, "height": shot.height})
            page.set_default_timeout(SECONDS * 1000)
            chosen = f"&tagFilter={quote(shot.tags)}&_smoothingWeight=0"
            page.goto(f"{address}{chosen}#{shot.tab}{chosen}")  # the new tabs read the one, the old ones the other
            shown = shot.prepare(page)
            settle(page)
            save(shown.screenshot(), Path(out) / f"monitoring_{name}.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
