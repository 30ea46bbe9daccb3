"""BLIP on two parts of ours against transformers' own, with and without a merge, and what it is trained
by."""

import pytest
import torch

from vitrim import Bipartite, costs
from vitrim.retrieval.evaluating import Texts, evaluate_retrieval
from vitrim.retrieval.model import Pairs, RetrievalModel
from vitrim.retrieval.uniadapter import UniAdapter

pytest.importorskip("transformers")

from small_blip import DEPTH, ENC, WIDTH, captions, pictures, small_blip

from vitrim.retrieval.blip import from_blip

MERGE = Bipartite(at=(1,))


def woken(model: RetrievalModel) -> RetrievalModel:
    """With everything that trains moved off its start, the momentum copy with it."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.trained().items():
            if "temperature" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def test_similarities_and_matching_are_those_of_transformers() -> None:
    theirs = small_blip()
    images, (ids, mask) = pictures(4), captions(4)
    with torch.no_grad():
        cosines = theirs(ids, images, use_itm_head=False, attention_mask=mask).itm_score
        logits = theirs(ids, images, attention_mask=mask).itm_score
    model = from_blip(theirs, enc_token=None, length=6, loss="infonce").eval()
    with torch.no_grad():
        assert torch.allclose(model(images, ids, mask), cosines, atol=1e-12)
        seen = model.towers.see(images, tokens=True)
        assert torch.allclose(model.match(model.look(seen), None, ids, mask), logits, atol=1e-11)


def test_enc_takes_the_first_tokens_place_only_where_an_image_is_looked_at() -> None:
    images, (ids, mask) = pictures(2), captions(2)
    marked = torch.cat([torch.full((2, 1), ENC), ids[:, 1:]], dim=1)
    plain, with_enc = (from_blip(small_blip(), enc_token=enc, length=6).eval() for enc in (None, ENC))
    with torch.no_grad():
        seen = plain.look(plain.towers.see(images, tokens=True))
        assert torch.equal(plain.match(seen, None, marked, mask), with_enc.match(seen, None, ids, mask))
        assert not torch.allclose(plain.match(seen, None, ids, mask), with_enc.match(seen, None, ids, mask))
        assert torch.equal(plain.towers.read(ids, mask), with_enc.towers.read(ids, mask))
    with pytest.raises(ValueError, match="outside the text tower's vocabulary"):
        from_blip(small_blip(), length=6)


def test_uniadapter_starts_without_effect_and_counts_as_published() -> None:
    images, (ids, mask) = pictures(2), captions(2)
    plain = from_blip(small_blip(), enc_token=ENC, length=6, loss="infonce").eval()
    tuned = from_blip(
        small_blip(), uniadapter=UniAdapter(8, 4), enc_token=ENC, length=6, loss="infonce"
    ).eval()
    with torch.no_grad():
        assert torch.equal(plain(images, ids, mask), tuned(images, ids, mask))
    per_layer = 2 * 2 * WIDTH + (WIDTH * 8 + 8) + 3 * (8 * WIDTH + WIDTH)
    maps = 2 * (WIDTH * 4 + 4 + 4 * WIDTH + WIDTH + 1)
    assert tuned.trained_by_tower() == {
        "vision": 0,
        "text": maps,
        "both": DEPTH * per_layer,
        "projections and heads": 2 * (WIDTH * 10 + 10) + 2 * WIDTH + 2,
    }
    from vitrim.retrieval.uniadapter import UniAdapters

    with torch.device("meta"):
        base = UniAdapters(12, 768, UniAdapter(), torch.empty(0))
    assert sum(p.numel() for p in base.layers.parameters()) == 12 * 1_578_752  # printed: 18.95 M
    assert sum(p.numel() for p in base.parameters()) == 12 * 1_578_752 + 198_274


@pytest.fixture(scope="module")
def merged() -> RetrievalModel:
    return woken(
        from_blip(
            small_blip(), MERGE, uniadapter=UniAdapter(8, 4), enc_token=ENC, length=6, queue=7, momentum=0.9
        )
    )


def test_a_training_step_reaches_everything_and_the_followers_by_the_formula(merged: RetrievalModel) -> None:
    ids, mask = captions(4)
    pairs = Pairs(pictures(4), ids, mask, torch.tensor([0, 1, 2, 0]))
    merged.train()
    merged.set_progress(0.5)
    follower = merged.follower
    assert follower is not None and merged.queue is not None
    assert not follower.towers.training
    with torch.no_grad():
        state = follower.towers.vision.run(pairs.images)[1]
    assert state.count == 8  # of 16: the momentum tower carries the same merge
    for _ in range(2):  # the second meets the queue
        merged.zero_grad()
        losses = merged.losses(pairs)
        losses.total.backward()
    assert not [name for name, each in merged.trained().items() if each.grad is None or not each.grad.any()]
    assert merged.queue.ids.tolist() == [0, 1, 2, 0, 0, 1, 2] and int(merged.queue.next) == 1
    before = [(own.clone(), other.detach()) for _, own, other in follower.pairs(merged.towers)]
    merged.after_step()
    after = [own for _, own, _ in follower.pairs(merged.towers)]
    assert len(after) > 20
    for (old, other), new in zip(before, after, strict=True):
        assert torch.allclose(new, 0.9 * old + 0.1 * other, atol=1e-15)


def test_frozen_weights_are_shared_with_the_follower_and_not_saved(merged: RetrievalModel) -> None:
    follower = merged.follower
    assert follower is not None
    assert follower.towers.vision.vit.blocks[0].attn.qkv.weight is merged.vision.vit.blocks[0].attn.qkv.weight
    kept = merged.state()
    assert not merged.load_state_dict(merged.state_dict()).missing_keys
    assert costs(merged.vision).trained > 0  # counted with the shared bottlenecks
    assert "queue.ids" in kept and not [name for name in kept if name.endswith("attn.qkv.weight")]
    adapter = "text.uniadapter.layers.0.down.weight"
    assert f"towers.{adapter}" in kept and f"follower.towers.{adapter}" in kept


def test_matching_again_is_the_same_whether_keys_are_cached_or_not(merged: RetrievalModel) -> None:
    ids, mask = captions(6)
    texts, images = Texts(ids, mask), [pictures(3)]
    owners, owned = [0, 1, 2], [0, 0, 1, 1, 2, 2]
    cached, plain = (
        evaluate_retrieval(merged, images, texts, owners, owned, k_test=3, cached=way)
        for way in (True, False)
    )
    assert torch.equal(cached.image_scores, plain.image_scores)
    assert torch.equal(cached.text_scores, plain.text_scores)
    scored = cached.image_scores > -torch.inf
    assert scored.sum(1).tolist() == [3, 3, 3]
    assert (cached.text_scores > -torch.inf).sum(1).tolist() == [3] * 6
    row, column = scored.nonzero()[0].tolist()
    merged.eval()
    with torch.no_grad():
        seen = merged.towers.see(images[0][row : row + 1], tokens=True)
        one = texts.rows(slice(column, column + 1))
        direct = merged.match(merged.look(seen), seen.bias, one.ids, one.mask)[0, 1]
    assert cached.image_scores[row, column].item() == pytest.approx(direct.item(), rel=1e-12)
    with_beta = evaluate_retrieval(merged, images, texts, owners, owned, k_test=3, beta=1.0)
    difference = (with_beta.image_scores - cached.image_scores)[scored]
    assert torch.allclose(difference, cached.similarity[scored])
