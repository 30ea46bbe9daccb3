"""Words that need explaining: `vitrim list words`, and docs/glossary.md.

That page is written by `python -m vitrim.cli.words > docs/glossary.md`.
"""

from __future__ import annotations

import sys

WORDS: dict[str, str] = {
    "method": (
        "a tuner or a reducer, such as LoRA(rank=8) or EViT(keep=0.7, at=(3, 6, 9)); the same text in "
        "Python, on the command line, in logs and in saved files."
    ),
    "tuner": ("what adapts the frozen backbone with few parameters that train."),
    "reducer": ("what makes the sequence of tokens shorter in some blocks, by dropping or merging patches."),
    "backbone": (
        "the pretrained Vision Transformer; its own weights stay as they are unless a method trains them."
    ),
    "head": (
        "the classifier on top, a fresh layer that always trains; counts of parameters that papers print "
        "leave it out."
    ),
    "composition": ("a backbone with methods on it, made by vitrim.compose."),
    "recipe": (
        "methods that belong together, after a paper, with the protocol they are trained by; --recipe NAME."
    ),
    "protocol": (
        "a published way to train: settings, images and their normalisation; --protocol NAME follows one "
        "whole, a recipe only optimises as its protocol does."
    ),
    "keep": ("the share of patch tokens that a reducer keeps in each of its blocks, 0.7 for 70 %."),
    "at": (
        "indices of blocks, counted from 0: at=(3, 6, 9) are the 4th, 7th and 10th layer. A method "
        "stands in these alone; several of one kind may stand in different blocks."
    ),
    "patch, token": (
        "an image is cut into patches; each becomes a token, a vector of D numbers. A reduction merges or"
        " drops tokens, and a token then stands for several patches or none."
    ),
    "prefix": ("tokens that are no patches (class, registers, prompts); reducers never touch them."),
    "site": (
        "a linear or norm layer of a block by what it does: query, key, value, attention_out, mlp_in, "
        "mlp_out, norm, patch."
    ),
    "as trained": ("the model with its methods beside the backbone's layers, as it stands after training."),
    "folded": (
        "the same model after what can be put into the backbone's own weights was put there "
        "(vitrim.merge): the same logits, no cost. LoRA, SSF, FacT, RepAdapter fold; adapters and "
        "reducers stay."
    ),
    "GMACs": ("billions of multiply-accumulates for one image; papers print the same number as GFLOPs."),
    "as executed": (
        "counted from what runs here. The last block computes only what the head reads, and a reducer "
        "that can runs before the output projection, so it is lower than as papers count."
    ),
    "as papers count": (
        "as official implementations run: the whole last block, unfused attention, no head. The figure to"
        " compare with papers. Shares of the plain backbone differ between the two: EViT at 0.7 leaves 66"
        " % as papers count, 68 % as executed."
    ),
    "mean of 19 tasks, group means": (
        "VTAB-1K has 19 tasks in three groups (natural, specialized, structured). Some papers average the"
        " tasks, some the means of the groups, which is two to five points higher: never compare one with"
        " the other."
    ),
    "selected on test": (
        "weights of the epoch that was best on the test images, as some papers report; too high, and "
        "marked wherever it is shown."
    ),
    "fit": (
        "what a method that chooses by the training images does before training (FisherDelta, EViT with "
        'at="sparse").'
    ),
    "plug-in": ("a module or file with methods of your own (vitrim.register), given as --plugin."),
    "run folder": (
        "what vitrim train writes: run.json (what was run, on what, with what result), history.jsonl "
        "(every epoch), checkpoints/ and model.safetensors."
    ),
}


def markdown() -> str:
    """docs/glossary.md."""
    lines = [f"- **{word}**: {meaning}\n" for word, meaning in WORDS.items()]
    return "# Words\n\nAlso: `vitrim list words`.\n\n" + "".join(lines)


if __name__ == "__main__":
    sys.stdout.write(markdown())
