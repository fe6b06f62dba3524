"""Which stages of a network train, how large they are, and at what rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lightning.pytorch import Trainer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from lightning_transfer.models.freezing import Stages
from lightning_transfer.utils.lightning import learning_rates


@dataclass(frozen=True)
class StageRow:
    """One stage.

    Attributes:
        stage: Its name.
        parameters: How many numbers it holds.
        trainable: How many of them train now.
        learning_rate: At which rate; None where it is in no optimizer.
    """

    stage: str
    parameters: int
    trainable: int
    learning_rate: float | None


def stage_rows(trainer: Trainer, stages: Stages) -> list[StageRow]:
    """Count what each stage has, and what of it trains now."""
    rates = learning_rates(trainer)
    rows = []
    for name, module in stages.items():
        parameters = list(module.parameters())
        rate = next((rates[id(parameter)] for parameter in parameters if id(parameter) in rates), None)
        trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        rows.append(StageRow(name, sum(parameter.numel() for parameter in parameters), trainable, rate))
    return rows


def stage_table(rows: Sequence[StageRow], title: str) -> str:
    """Text of a table with a row a stage and the totals; a frozen stage has no rate.

    >>> rows = [StageRow("block5", 7_079_424, 7_079_424, 5e-5), StageRow("head", 2_097_922, 2_097_922, 1e-4)]
    >>> print(stage_table(rows, "epoch 5"))
    epoch 5
     stage    parameters   trainable   learning rate
    ─────────────────────────────────────────────────
     block5    7,079,424   7,079,424         5.0e-05
     head      2,097,922   2,097,922         1.0e-04
    <BLANKLINE>
     total     9,177,346   9,177,346
    """
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE, show_edge=False)
    table.add_column("stage")
    for name in ("parameters", "trainable", "learning rate"):
        table.add_column(name, justify="right")
    for row in rows:
        rate = f"{row.learning_rate:.1e}" if row.trainable and row.learning_rate is not None else "–"
        table.add_row(row.stage, f"{row.parameters:,}", f"{row.trainable:,}" if row.trainable else "frozen", rate)
    table.add_section()
    table.add_row("total", f"{sum(r.parameters for r in rows):,}", f"{sum(r.trainable for r in rows):,}", "")
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).strip("\n")
