"""What --budget means to the verbs that run a trained model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def budget_option(parser: ArgumentParser, several: bool = False) -> None:
    """Another share of tokens than the model was composed with."""
    parser.add_argument(
        "--budget",
        type=_as_text,
        metavar="SHARE,SHARE" if several else "SHARE",
        help="keep another share of the tokens, such as 0.5; where each image keeps its own number, it is "
        "found on training images of the run" + ("; several give a line each" if several else ""),
    )


def _as_text(value: str | float | None) -> str | None:
    return None if value is None else str(value)  # a configuration file gives a number


def budgets_of(chosen: Namespace) -> list[float]:
    """The shares asked for, none if not given."""
    from vitrim.checks import check_share

    shares = []
    for part in (chosen.budget or "").split(","):
        if part.strip():
            try:
                shares.append(float(part))
            except ValueError:
                given = part.strip()
                raise ValueError(f"--budget takes shares such as 0.5 or 0.5,0.7, got {given!r}") from None
            check_share("--budget", "a share", shares[-1])
    return shares


def one_budget_of(chosen: Namespace) -> float | None:
    """The only share there may be, None if not given."""
    shares = budgets_of(chosen)
    if len(shares) > 1:
        raise ValueError(f"--budget {chosen.budget}: predictions are made at one budget; give one share")
    return shares[0] if shares else None


def at_budget(model: Any, share: float, run: str | None, chosen: Namespace, data: str | None = None) -> None:
    """Let the model of a run keep another share; on the training images of `data`, if not the run's."""
    from vitrim.network.bucketed import varies
    from vitrim.network.model import StagedViT
    from vitrim.training.budgets import set_budget_of_run

    if not isinstance(model, StagedViT):
        raise ValueError("an exported file has the budget it was exported with; give the run itself")
    if run is None:
        if varies(model):
            raise ValueError("what each image keeps is found on images: give --budget with a run folder")
        model.set_budget(share)
        return
    root, download = chosen.get("root"), bool(chosen.get("download", False))
    set_budget_of_run(model, share, run, data, root, download)


def methods_at_budget(run: str, chosen: Namespace) -> tuple[str, ...] | None:
    """The methods of a run under --budget as text, found here once for every process and machine that
    predicts; None if not given."""
    from vitrim.deploy.exported import open_answering

    share = one_budget_of(chosen)
    if share is None:
        return None
    model = open_answering(run, chosen.get("trust", False), chosen.image_size)
    at_budget(model, share, run, chosen)
    return tuple(map(repr, model.methods))
