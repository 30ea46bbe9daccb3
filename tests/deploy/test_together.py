"""Several tasks for one pass: the same logits as one by one, the backbone run once, what cannot share."""

import pytest
import torch
import tuned
from golden import assert_close
from toys import images, toy

import vitrim
from vitrim import Linear, ResTuning, SynQT, compose
from vitrim.measuring.counting import MacCounter, counting


def tasks(*methods, family: str = "vit", classes: tuple[int, ...] = (3, 5, 2)):
    torch.manual_seed(0)
    own = [ResTuning(length=4), SynQT(queries=2), Linear()]
    return [
        tuned.stir(compose(toy(family, depth=3), task, *methods, num_classes=count))
        for task, count in zip(own, classes, strict=True)
    ]


@pytest.mark.parametrize("family", ["vit", "siglip", "distilled"])
@pytest.mark.parametrize("methods", [(), ("EViT(keep=0.5, at=(1,))",)], ids=["whole", "reduced"])
def test_logits_are_those_of_each_model_by_itself(family, methods):
    if family == "siglip" and methods:
        methods = ("ToMe(r=8)",)
    models = tasks(*methods, family=family)
    batch = images(models[0])
    for ours, model in zip(vitrim.together(models)(batch), models, strict=True):
        with torch.no_grad():
            assert_close(ours, model(batch), 1e-10)


def test_the_backbone_runs_once():
    models = tasks()

    def macs(model) -> int:
        counter = MacCounter()
        with counting(counter):
            model(images(models[0]))
        return counter.total

    alone = [macs(model) for model in models]
    assert macs(vitrim.together(models)) < sum(alone) - 1.9 * alone[-1]


def test_what_cannot_share_a_pass_is_refused():
    bypass, queries, probe = tasks()
    with pytest.raises(ValueError, match="at least one model"):
        vitrim.together([])
    with pytest.raises(ValueError, match="got str at place 1"):
        vitrim.together([bypass, "runs/cars"])
    with pytest.raises(ValueError, match=r"LoRA\(.*at place 1 changes what the backbone computes"):
        vitrim.together([bypass, compose(toy(depth=3), "LoRA()")])
    with pytest.raises(ValueError, match="stand on different weights"):
        vitrim.together([bypass, compose(toy(depth=3, seed=4), ResTuning())])
    with pytest.raises(ValueError, match=r"reduces by \[\] and another by \['EViT"):
        vitrim.together([queries, compose(toy(depth=3), SynQT(), "EViT(keep=0.5, at=(1,))")])
    assert probe.num_classes == 2
