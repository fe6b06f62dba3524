"""A real browser opens TensorBoard on finished runs, and finds each tab filled."""

import csv
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from conftest import command_in

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.nightly,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium"),
]

CONFIGS = Path(__file__).parents[2] / "configs"
IMAGES = 24  # to validate with
STAGES = ("stem", "block1", "block2", "block3", "block4", "block5", "last_conv")
FEATURES = 576  # of mobilenet_v3_small
FLAGS = [
    "--data=SketchPetsDataModule",
    "--data.root=sketches",
    f"--data.samples={{train: 16, validation: {IMAGES // 2}, test: 1}}",
    "--data.image_size=64",
    "--data.num_workers=0",
    "--model.backbone=mobilenet_v3_small",
    "--model.weights=bundled",
    "--model.pool=avg",
    "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
]
# What sets a run apart, by its name.
RUNS = {
    "feature_extraction": ["--model.lr=1e-3"],
    "fine_tuning": ["--model.lr=5e-4", "--trainer.callbacks.schedule={0: [head], 1: [last_conv]}"],
}
EXPECTED = {
    "feature_extraction": {"regime": "FeatureClassifier", "lr": 1e-3, "scheduler": "none"},
    "fine_tuning": {"regime": "FineTuningClassifier", "lr": 5e-4, "scheduler": "cosine"},
}
SECONDS = 60


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder in which two regimes were fitted, as the configs say but for size."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as monkeypatch:
        command = command_in(folder, monkeypatch)
        for name, flags in RUNS.items():
            assert command("fit", "--config", CONFIGS / f"{name}.yaml", *FLAGS, *flags) == 0
    return folder


@pytest.fixture(scope="module")
def address(runs):
    """Where a TensorBoard that has read everything answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # So it answers only when it has read the logs.
    read_first = ["--load_fast=false", "--reload_task=blocking", "--reload_interval=0"]
    served = [f"--logdir={runs / 'logs'}", "--host=127.0.0.1", f"--port={port}"]
    with (
        (runs / "tensorboard.log").open("w+") as log,
        subprocess.Popen(
            [sys.executable, "-m", "tensorboard.main", *served, *read_first], stdout=log, stderr=log
        ) as process,
    ):
        try:
            for _ in range(SECONDS * 5):
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    assert process.poll() is None, Path(log.name).read_text()
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/?darkMode=false"
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def browser():
    sync_api.expect.set_options(timeout=SECONDS * 1000)
    # The projector wants WebGL, which a machine without a graphics card computes itself.
    arguments = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def show(browser, address):
    """Opens a tab, with these tags alone at its top, and gives its page."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(SECONDS * 1000)

    def opened(tab, tags=""):
        chosen = f"&tagFilter={quote(tags)}&_smoothingWeight=0"
        page.goto(f"{address}{chosen}#{tab}{chosen}")  # the new tabs read the one, the old ones the other
        return page

    yield opened
    page.close()


def epochs(runs, name):
    """What metrics.csv has of each epoch."""
    with (runs / "checkpoints" / name / "metrics.csv").open() as file:
        return [{score: float(value) for score, value in row.items()} for row in csv.DictReader(file)]


def cards(page, kind, tag):
    """Those with this tag among the ones that the filter of an old tab puts above the others."""
    matching = page.locator("tf-category-paginated-view").filter(has_text="Tags matching")
    return matching.locator(kind).filter(has_text=tag)


def has_lines(card, count):
    """A curve of more than one point for each run."""
    lines = card.locator("vz-line-chart2 path.line")
    sync_api.expect(lines).to_have_count(count)
    for line in lines.all():
        sync_api.expect(line).to_have_attribute("d", re.compile(r"^M[\d.,-]+L[\d.,-]+"))


def has_loaded(image):
    sync_api.expect(image).to_have_js_property("complete", True)
    assert image.evaluate("image => image.naturalWidth") > 0


def test_scalars_are_curves_of_both_runs(show):
    page = show("scalars", "^(train/loss|validation/accuracy)$")
    # With two points a run, one whole run can count as an outlier, and TensorBoard then draws nothing of it.
    page.get_by_text("Ignore outliers in chart scaling").click()
    for tag in ("train/loss", "validation/accuracy"):
        card = cards(page, "tf-scalar-card", tag)
        sync_api.expect(card).to_have_count(1)
        has_lines(card, len(RUNS))


@pytest.mark.parametrize("score", ["validation/accuracy", "train/loss"])
def test_time_series_end_where_the_scores_do(show, runs, score):
    page = show("timeseries", f"^{score}$")
    card = page.locator("scalar-card").filter(has=page.get_by_title(score, exact=True)).first
    sync_api.expect(card.locator("line-chart canvas")).to_have_count(1)
    names = card.locator("tb-data-table-header-cell").all_inner_texts()
    value = [name.strip() for name in names].index("Value")
    for name in RUNS:
        row = card.locator("tb-data-table-content-row").filter(has_text=f"{name}/version_0")
        shown = float(row.locator("tb-data-table-content-cell").nth(value).inner_text())
        assert shown == pytest.approx(epochs(runs, name)[-1][score], abs=5e-5)


@pytest.mark.parametrize(
    "tags",
    [
        ["confusion_matrix"],
        ["wrong_images"],
        [f"feature_maps/{stage}" for stage in STAGES],
        ["first_layer_filters"],
    ],
    ids=lambda tags: tags[0].partition("/")[0],
)
def test_images_are_there_for_both_runs(show, tags):
    page = show("images")
    for tag in tags:
        page.locator("tf-tag-filterer input").fill(f"^{tag}$")
        images = cards(page, "tf-image-loader", tag).locator("img")
        sync_api.expect(images).to_have_count(len(RUNS))
        for image in images.all():
            has_loaded(image)


def test_the_graph_opens_down_to_the_stages(show):
    page = show("graphs")

    def has_box(name):
        box = page.locator(f"tf-graph-scene g.node[data-name='{name}']")
        sync_api.expect(box).to_be_visible()
        written = box.locator("text").first.evaluate("text => text.firstChild.textContent")
        assert name.rpartition("/")[2].startswith(written.removesuffix("…"))
        assert len(written) > 4
        return box

    for outer in ("input", "output", "TransferNetwork"):
        has_box(outer)
    # It moves while it is being laid out, where a click would miss it.
    has_box("TransferNetwork").locator("rect").first.dispatch_event("dblclick")
    has_box("TransferNetwork/Head[head]")
    has_box("TransferNetwork/Backbone[backbone]").locator("rect").first.dispatch_event("dblclick")
    for stage in STAGES:
        has_box(f"TransferNetwork/Backbone[backbone]/Sequential[{stage}]")


@pytest.mark.parametrize("name", ["cats", "dogs"])
def test_there_is_a_precision_recall_curve_for_each_class(show, name):
    tag = f"precision_recall/{name}"
    card = cards(show("pr_curves", f"^{tag}$"), "tf-pr-curve-card", tag)
    sync_api.expect(card).to_have_count(1)
    has_lines(card, len(RUNS))


def table(page):
    """The rows of HPARAMS, by column."""
    grid = page.locator("#sessionGroupsTable")
    sync_api.expect(grid.get_by_text("/version_0")).to_have_count(len(RUNS))
    header, *rows = grid.evaluate("""grid => [...grid.shadowRoot.querySelectorAll("thead tr, tbody tr")].map(row =>
        [...row.children].map(cell => {
            const slot = cell.querySelector("slot");
            return slot ? slot.assignedElements().map(element => element.innerText.trim()).join("") : "";
        }))""")
    return {row[0].removesuffix("/version_0"): dict(zip(header, row, strict=False)) for row in rows}


def test_hparams_compare_the_runs(show, runs):
    page = show("hparams")
    shown = table(page)
    assert shown.keys() == RUNS.keys()
    for name, row in shown.items():
        accuracies = [epoch["validation/accuracy"] for epoch in epochs(runs, name)]
        assert row["backbone"] == "mobilenet_v3_small"
        assert row["regime"] == EXPECTED[name]["regime"]
        for column, value in {
            "lr": EXPECTED[name]["lr"],
            "epochs": 2,
            "validation/accuracy": accuracies[-1],
            "best/validation/accuracy": max(accuracies),
        }.items():
            assert row[column] == f"{value:#.5g}", column  # as TensorBoard rounds

    # Only one of the runs was given one.
    page.get_by_role("checkbox", name="scheduler", exact=True).click()
    sync_api.expect(page.locator("#sessionGroupsTable").get_by_text("cosine", exact=True)).to_be_visible()
    for name, row in table(page).items():
        assert row["scheduler"] == EXPECTED[name]["scheduler"]


def test_the_projector_has_the_validation_images_with_their_classes(show):
    page = show("projector")
    projector = page.frame_locator("iframe").frame_locator("iframe").locator("vz-projector")
    sync_api.expect(projector).to_contain_text(f"Points: {IMAGES}")
    sync_api.expect(projector).to_contain_text(f"Dimension: {FEATURES}")
    projector.locator("#colorby").click()
    projector.locator("#colorby paper-item").filter(has_text="truth").click()
    legend = projector.locator("vz-projector-legend")
    for name in ("cats", "dogs"):
        entry = legend.locator(".item").filter(has_text=name)
        sync_api.expect(entry).to_contain_text(str(IMAGES // 2))
