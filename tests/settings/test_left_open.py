"""Length and learning rate of a run for which nobody asked."""

import pytest

from vitrim.settings.left_open import CEILING, choose_left_open, epochs_for
from vitrim.settings.protocols import PROTOCOLS
from vitrim.settings.recipes import RECIPES
from vitrim.settings.run_plan import Asked, settle_plan
from vitrim.settings.training import Training


def chosen(images: int = 800, **asked: object) -> Training:
    return choose_left_open(settle_plan(Asked(**asked)), images)[0].training  # type: ignore[arg-type]


def test_a_shorter_run_takes_a_higher_rate_and_a_long_one_the_published() -> None:
    rates = [chosen(recipe="lora", training={"epochs": epochs}).lr for epochs in (1, 5, 40, 60, 200, 400)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 3 * rates[-1]
    assert rates[-1] == RECIPES["lora"].training.lr
    steps = 40 * (800 // 64)
    assert rates[2] == pytest.approx(1e-3 * 1500 / steps, rel=0.05)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("epochs", [1, 4, None])
def test_every_recipe_can_be_short(recipe: str, epochs: int | None) -> None:
    published = RECIPES[recipe].training
    found = chosen(recipe=recipe, training={} if epochs is None else {"epochs": epochs})
    assert found.epochs == (epochs or 25)
    assert found.warmup <= found.epochs
    assert published.lr / 10 <= found.lr <= 20 * published.lr
    if published.optimizer != "sgd" and RECIPES[recipe].methods:
        assert found.lr <= max(CEILING, published.lr)


def test_a_protocol_by_name_keeps_its_length_and_rate_unless_asked_otherwise() -> None:
    for name, protocol in PROTOCOLS.items():
        kept = chosen(recipe="lora", protocol=name, data="digits")
        assert (kept.epochs, kept.lr) == (protocol.training.epochs, protocol.training.lr)
    asked = chosen(recipe="lora", protocol="vtab/shared", training={"lr": "auto", "epochs": 3})
    assert asked.epochs == 3
    assert asked.lr > PROTOCOLS["vtab/shared"].training.lr


def test_what_is_given_stays() -> None:
    found = chosen(recipe="ssf", training={"lr": 7e-4, "epochs": 10, "cooldown_epochs": 3})
    assert (found.lr, found.epochs, found.cooldown_epochs) == (7e-4, 10, 3)
    whole = chosen(recipe="lora", training=Training())
    assert whole == Training()


def test_the_classifier_alone_is_bolder_and_own_weights_are_not() -> None:
    short = {"epochs": 4}
    assert chosen(recipe="linear", training=short).lr > chosen(recipe="lora", training=short).lr
    assert chosen(recipe="gps", training=short).lr == RECIPES["gps"].training.lr
    assert chosen(recipe="full", training=short).lr < RECIPES["full"].training.lr


def test_fewer_images_mean_more_epochs_within_bounds() -> None:
    lengths = [epochs_for(images) for images in (1, 98, 800, 1000, 5000, 10**6)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == lengths[1] == 30
    assert lengths[-1] == 5


def test_other_settings_cannot_be_auto() -> None:
    with pytest.raises(ValueError, match="batch_size cannot be 'auto'; only epochs and lr can"):
        settle_plan(Asked(training={"batch_size": "auto"}))
