"""`VideoModel`: an image model that takes clips. Every frame passes the same tuned and reduced blocks alone;
what is left of all frames is pooled and classified once."""

from typing import Self

from torch import Tensor, nn

from vitrim.backbones.geometry import has_class_token, prefix_count
from vitrim.backbones.heads import after_pooling, classify_features, is_distilled, last_tokens
from vitrim.backbones.packed import Images
from vitrim.backbones.places import Places
from vitrim.backbones.support import attentions
from vitrim.backbones.weighing import log_sizes, pool_weights
from vitrim.network.model import StagedViT
from vitrim.tokens.state import Clips, TokenState
from vitrim.video.pooling import AttentivePooling, mean_by_size
from vitrim.video.settings import Video
from vitrim.video.temporal import LearnedTimes, WaveTimes

FRAMES = 8  # of a clip where nothing says otherwise, as in the papers


class VideoModel(StagedViT):
    """Clips [B, channels, T, height, width], or views of clips [B, V, channels, T, height, width], to logits
    [B, classes]; the logits of views are averaged. Made by `vitrim.compose(..., video=...)`, or from an image
    model, whose parts it takes over.

    Inside, every frame is an image: states hold B x V x T rows, so methods need not know of video.
    `forward_features` and `forward_intermediates` give such rows too, clip by clip, view by view, frame by
    frame.

    Attributes:
        video: how frames become one answer; its `frames` are settled.
        clip_pool: the attentive pooling, None for means. It trains.
        times: the temporal embedding, None without one. It trains.
    """

    def __init__(
        self,
        image_model: StagedViT,
        num_frames: int = FRAMES,
        pool: str = "attentive",
        temporal_embed: str = "none",
        pool_heads: int | None = None,
        inflate: str = "none",
        kernel: str = "mean",
    ) -> None:
        if isinstance(image_model, VideoModel) or not isinstance(image_model, StagedViT):
            raise ValueError(
                f"VideoModel takes an image model that vitrim.compose made, got {type(image_model).__name__}"
            )
        super().__init__(image_model.vit, image_model.preprocess, image_model.origin)
        taken = {name: value for name, value in vars(image_model).items() if not name.startswith("_")}
        vars(self).update(taken)  # what it knows; its parts are modules:
        self.stages, self.shared = image_model.stages, image_model.shared
        heads = pool_heads or (_heads(image_model) if pool == "attentive" else None)
        self.video = Video(pool, temporal_embed, heads, num_frames, inflate, kernel)
        if pool == "mean_cls" and not (has_class_token(self.vit) or hasattr(self.vit, "blocks_token_only")):
            raise ValueError(
                "Video: pool='mean_cls' needs a class token, which this backbone has not; take "
                "pool='attentive' or pool='mean_tokens'"
            )
        like = next(self.vit.blocks[0].parameters())
        self.clip_pool = None if heads is None else AttentivePooling(self.width, heads, like)
        self.times: LearnedTimes | WaveTimes | None = None
        if temporal_embed != "none":
            learned = temporal_embed == "learned"
            self.times = (
                LearnedTimes(self.steps(num_frames), self.width, like)
                if learned
                else WaveTimes(self.width, like)
            )
        self.train(image_model.training)

    @classmethod
    def of(cls, image_model: StagedViT, video: Video) -> Self:
        """As the settings say."""
        return cls(
            image_model, video.frames or FRAMES, video.pool, video.temporal_embed, video.pool_heads,
            video.inflate, video.kernel,
        )  # fmt: skip

    def steps(self, frames: int) -> int:
        """How many steps in time the tokens of so many frames have: one a frame."""
        return frames

    def take_parts(self, other: StagedViT, plugged: bool = True) -> None:
        """What pools frames as well."""
        super().take_parts(other, plugged)
        if isinstance(other, VideoModel):
            self.video, self.clip_pool, self.times = other.video, other.clip_pool, other.times

    def plain(self) -> "VideoModel":
        """Only the backbone and what reads the frames: no reducers, no branches."""
        bare = type(self)(super().plain(), pool="mean_tokens")  # draws no random weights
        bare.take_parts(self, plugged=False)
        return bare

    def begin(self, images: Images, history: bool = False) -> tuple[TokenState, list[Places]]:
        """The state before the first block: a row for each frame."""
        clips = self._check_clips(images)
        if clips.ndim == 6:
            views, frames, clips = clips.shape[1], clips.shape[3], clips.flatten(0, 1)
        else:
            views, frames = 1, clips.shape[2]
        state, places = super().begin(clips.transpose(1, 2).flatten(0, 1), history)
        return state.replaced(clips=Clips(views, frames)), places

    def rows_read(self) -> int | None:
        """One token of the last block where class tokens or a side stream are all that is read; CaiT's comes
        after the blocks."""
        if self.side is not None and not self.side.reads_last:
            return 1
        read = self._reads_class_tokens() and prefix_count(self.vit) > 0
        return (2 if is_distilled(self.vit) else 1) if read else None

    def classify(self, state: TokenState) -> Tensor:
        """Logits [B, classes]: the mean over views."""
        pooled = self._pooled(state)  # [B*V, 1 or 2, D]
        logits = classify_features(self.vit, *pooled.unbind(1))
        return self._over_views(logits, state)

    def _features(self, state: TokenState) -> Tensor:
        return self._over_views(self._pooled(state)[:, 0], state)

    def _over_views(self, given: Tensor, state: TokenState) -> Tensor:
        views = clips_of(state).views
        return given if views == 1 else given.unflatten(0, (-1, views)).mean(1)

    def _pooled(self, state: TokenState) -> Tensor:
        """What the head reads of each view; a distilled pair of heads has two. [B*V, 1 or 2, D]"""
        if self.side is not None and not self.side.reads_last:  # all it gives of a frame is one vector
            own = self.side.features(self.vit, state, state.side[0])[:, None]  # [B*V*T, 1, D]
            return self._over_time(own, None, state)[:, None]
        tokens, state = last_tokens(self.vit, self._finished(state))  # [B*V*T, P+N, D]
        if self._reads_class_tokens():
            rows = 2 if is_distilled(self.vit) else 1
            classes = tokens[:, :rows].unflatten(0, (-1, clips_of(state).frames)).mean(1)  # [B*V, rows, D]
            return after_pooling(self.vit, classes)
        reduced = not state.full or state.keep is not None
        weights = pool_weights(state)  # [B*V*T, P+N]
        if self.clip_pool is None:
            first = state.prefix
            tokens, weights = tokens[:, first:], weights[:, first:]
        pooled = self._over_time(tokens, weights if reduced else None, state)
        return after_pooling(self.vit, pooled)[:, None]

    def _over_time(self, tokens: Tensor, weights: Tensor | None, state: TokenState) -> Tensor:
        """Tokens [B*V*T, n, D] of frames, and how much each counts, to one vector of each view [B*V, D]."""
        frames = clips_of(state).frames
        if self.times is not None and self.video.inflate == "none":
            moved = self.times(frames).repeat(len(tokens) // frames, 1)  # [B*V*T, D]
            tokens = tokens + moved[:, None].to(tokens.dtype)
        tokens = tokens.unflatten(0, (-1, frames)).flatten(1, 2)  # [B*V, T*n, D]
        weights = None if weights is None else weights.unflatten(0, (-1, frames)).flatten(1, 2)
        if self.clip_pool is not None:
            pooled: Tensor = self.clip_pool(tokens, None if weights is None else log_sizes(weights))
            return pooled
        return tokens.mean(1) if weights is None else mean_by_size(tokens, weights)

    def _reads_class_tokens(self) -> bool:
        return self.video.pool == "mean_cls" and (self.side is None or self.side.reads_last)

    def _check_clips(self, images: Images) -> Tensor:
        if not isinstance(images, Tensor):
            raise ValueError(
                "a video model takes clips [B, channels, frames, height, width], not patches of many sizes"
            )
        if images.ndim not in (5, 6):
            hint = "; for images, compose without video" if images.ndim == 4 else ""
            raise ValueError(
                "expected clips [B, channels, frames, height, width] or views of clips [B, views, channels, "
                f"frames, height, width], got {images.ndim} dimensions{hint}"
            )
        if isinstance(self.times, LearnedTimes):
            self.times(self.steps(int(images.shape[-3])))
        return images

    def input_shape(self, size: tuple[int, int] | None = None) -> tuple[int, ...]:
        """A clip [channels, T, height, width]."""
        channels, *pixels = super().input_shape(size)
        return channels, self.frames, *pixels

    @property
    def frames(self) -> int:
        """T, of the clips it was made for."""
        return self.video.frames or FRAMES

    def alone(self) -> nn.Module:
        """The backbone over all frames, and their pooling."""
        return self.plain()

    def behind_blocks(self) -> tuple[nn.Module, ...]:
        """The classifiers, and what pools frames."""
        return (*super().behind_blocks(), *self.over_time())

    def over_time(self) -> tuple[nn.Module, ...]:
        """The pooling and the temporal embedding, which papers leave out of their count of parameters."""
        return tuple(part for part in (self.clip_pool, self.times) if part is not None)


def clips_of(state: TokenState) -> Clips:
    """How the rows of a state are clips."""
    if state.clips is None:
        raise ValueError("a video model reads states of clips; this one is of images")
    return state.clips


def _heads(model: StagedViT) -> int:
    return int(attentions(model.vit.blocks[0])[0].num_heads)
