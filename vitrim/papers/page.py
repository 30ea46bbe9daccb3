"""docs/reproduction.md: the whole ledger, with what can be derived and what cannot."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from vitrim.papers.accuracy import MEANS
from vitrim.papers.reading import VIT_B, Reading, counted
from vitrim.papers.reasons import REASONS
from vitrim.papers.verdicts import VERDICTS, Cell
from vitrim.papers.writing import as_markdown, by_table, counts, grid, means_as_markdown

COMMAND = "vitrim reproduce all --markdown docs/reproduction.md"

PREFACE = """\
# The papers' tables, recomputed

Sparse-Tuning (arXiv 2405.14700), TR-PTS (arXiv 2507.22872) and FPET (arXiv 2503.20282). Every cell of
theirs that states parameters or operations is computed anew from the model that vitrim composes for the
row. This page is written by

    {command}

and holds no figure of ours that the command did not count. `vitrim reproduce fpet --table A3` shows one
table, `--json`, `--csv` and `--markdown` write files, `--runs` puts your own accuracies beside the
papers', `--measure` measures time and memory on your machine.

## How it is counted

- Papers say GFLOPs and mean 10^9 multiply-accumulates as fvcore counts them: convolutions, linear layers
  and matrix products 1, LayerNorm 5 for each element, everything else 0, attention not fused, no
  classifier. ViT-B/16 at 224 pixels comes to {gmacs:.9f}.
- Parameters are those that train, in millions, without the classifier. TR-PTS prints percent of the
  backbone's {weights:,} and includes a classifier of the benchmark's mean size; two cells of the other
  papers do so too.
- "Agrees" means that our figure rounds to the printed digits. Anything else "differs", by however little,
  and says why. "Not derivable" means that something the figure depends on is not
  at hand.
- VPT's prompts were tuned for each task. The numbers used here are those of the list in its appendix, quoted
  from memory; that five counts in three papers follow from it is their check.
- Layers count from 1 in Sparse-Tuning and TR-PTS and from 0 in FPET and in vitrim.

## What cannot be derived

- **DyT's operations.** They depend on how many patches the trained dispatchers let pass. Ours are those
  of the nominal rate, so these cells differ by nature. Dispatchers cost little and the release does not
  count them; here they are left out as well.
- **TR-PTS's own parameters.** The paper states neither how many connections are chosen nor whether biases
  train, and its repository holds no code. Its one cost figure is a chart.
- **SynQT's operations.** Two papers print two figures, and both are below what its released code runs.
- **PYRA's operations and Res-Tuning's parameters.** No released schedule or length gives them.
- **Time, memory and accuracy.** The first two belong to a machine (`--measure`), accuracy to training
  runs (`--runs`). Means of printed accuracies are recomputed at the end of this page.

## Where the papers contradict themselves

- **Sparse-Tuning's dense adapter** is printed a little heavier than its equations at every width in
  Tables V to XII, and at AdaptFormer's count in Tables II and IV. Its operations are printed with two
  different costs of EViT.
- **Its Table IV** says keep rate 0.5 for all rows. Three rows fit other settings; the figures of EViT
  cannot be reached with reduction at the layers it states.
- **Tables IX and XI** print different costs, parameters and accuracies for the same layers, and Table XI
  gets cheaper the later reduction starts.
- **Its Tables I and III** print two parameter counts for one LoRA, and pair DyT's with four experts and
  with one.
- **Its costs of video** (Table I) are those of DyT's pipeline: eight frames, each run as an image, their
  tokens pooled by one learned query, the classifier of 400 classes counted. Computed here from the video
  model itself, the rows without reduction come out to the digit. Its own row does not: pooling what
  survives costs less than printed, and so does pooling all tokens.
- **FPET** folds some methods that can be folded before counting and not others, lists operations of VPT
  with 10 prompts beside parameters of 57, and prints a saving for DeiT-B that its own two costs do not
  give.
- **TR-PTS's "Adapter" row** fits an adapter that, as published, cannot train more than its output bias,
  and its LoRA count on VTAB-1K is that of FGVC.
- **Two kinds of mean accuracy** are in use, and Sparse-Tuning's Table II mixes them: its two baselines
  Full and Linear are means of groups, which lifts them by {full:.1f} and {linear:.1f} points above the
  scale of the other rows.

## Where released code departs from its paper, and what vitrim does

- **Sparse-Tuning's release** is a different network: its adapters do not read each other. `DenseAdapter`
  follows the paper; `follows="release"` is the released one. EViT and Sparse-Tuning's code do not
  normalise the weights of the fused token, the papers do: `EViT(fuse="mean")` is the default,
  `fuse="sum"` the release's.
- **TR-PTS** has no code. Open points are decided in `FisherDelta` and said there.
- **FPET's release** has no biases in its adapters, which the literature's counts include; the rows here
  follow the code. Its matching loses tokens in low precision, which vitrim's does not.
- **DyT's four experts** are not released; ours mix weights, which the printed operations fit.
- **Schedules**: several releases set the learning rate one epoch late and keep the best epoch on the test
  images. vitrim does neither unless asked (`--schedule release`, `--select best-on-test`).
"""


def preface() -> str:
    """What the tables are about, with the few figures in it counted too."""
    lifted = {row.recipe: row.group_mean - row.mean19 for row in MEANS
              if row.paper == "sparse-tuning" and row.group_mean and row.mean19}  # fmt: skip
    return PREFACE.format(
        command=COMMAND, gmacs=Reading().compute("gmacs"), weights=counted(VIT_B, "").total,
        full=lifted["full"], linear=lifted["linear"],
    )  # fmt: skip


def tally(cells: Sequence[Cell]) -> str:
    """How the cells came out, in two sentences."""
    agree, differ, unknown = counts(cells)
    differing = [cell for cell in cells if cell.verdict == "differs"]
    by_data = (REASONS["activation"], REASONS["activation-experts"])
    nominal = [cell for cell in differing if cell.reason.startswith(by_data)]
    last = [cell for cell in differing if cell not in nominal and in_last_digit(cell)]
    rest = differ - len(last) - len(nominal)
    return (
        f"Of {len(cells)} cells {agree} agree, {differ} differ, {unknown} cannot be derived. Of those that\n"
        f"differ, {len(last)} do so by one in the last printed digit, {len(nominal)} are operations of DyT,\n"
        f"which depend on training, and {rest} are further off.\n"
    )


def in_last_digit(cell: Cell) -> bool:
    """Whether ours, rounded to the printed digits, is one off in the last."""
    step = Decimal(1).scaleb(int(Decimal(cell.printed).as_tuple().exponent))
    return abs(Decimal(repr(cell.computed)).quantize(step) - Decimal(cell.printed)) <= step


def whole_page(cells: Sequence[Cell]) -> str:
    """The page about all tables of all papers."""
    lines = [
        (paper, table, *map(str, counts(found)), str(len(found))) for (paper, table), found in by_table(cells)
    ]
    total = ("all", "", *map(str, counts(cells)), str(len(cells)))
    parts = [
        preface(),
        "## Cells by table\n",
        tally(cells),
        "\n".join(grid(("paper", "table", *VERDICTS, "cells"), [*lines, total], "llrrrr")) + "\n",
        "## Tables\n",
        tables(cells),
        MEANS_TEXT,
        means_as_markdown(MEANS),
    ]
    return "\n".join(parts)


MEANS_TEXT = """\
## Mean accuracies on VTAB-1K

Both means of the same accuracies, where the accuracy of each task is at hand. For the papers' own rows and
a few others it is not, so these means stand as printed and cannot be checked.
"""


def tables(cells: Sequence[Cell]) -> str:
    return "\n".join(as_markdown(found) for _, found in by_table(cells))
