"""What can be chosen of a video model, and its text: `Video(pool='attentive', temporal_embed='none')`."""

from dataclasses import dataclass

from vitrim.checks import check_one_of, check_positive
from vitrim.network.method import option, settings_text

POOLS = ("attentive", "mean_cls", "mean_tokens")
TEMPORAL = ("none", "learned", "sincos")
CARRIERS = ("none", "joint")
TUBELET = 2  # frames


@dataclass(frozen=True, repr=False)
class Video:
    """How the frames of a clip become one answer.

    Attributes:
        pool: "attentive" (a learned query attends to the tokens of all frames, as in DyT), "mean_cls" (mean
            of the class tokens) or "mean_tokens" (mean of all patches, by size).
        temporal_embed: what is added to the tokens of each frame before they are pooled: "none", "learned"
            (a vector for each frame, zero at the start) or "sincos" (sines and cosines of the frame's number,
            with a learned scale for each channel, zero at the start).
        pool_heads: heads of the attentive pooling; None for as many as the backbone has.
        frames: of a clip; None for those of the data, or 8 where there is none.
        inflate: "none" runs every frame through the image model alone. "joint" makes tokens of two frames
            each, by a patch kernel inflated over time, and lets all tokens of a clip attend to each other,
            without a class token.
        kernel: how the joint model's kernel starts: the "mean" of both frames, or the "centre" one.
    """

    pool: str = "attentive"
    temporal_embed: str = "none"
    pool_heads: int | None = option(None)
    frames: int | None = option(None)
    inflate: str = option("none")
    kernel: str = option("mean")

    def __post_init__(self) -> None:
        check_one_of("Video", "pool", self.pool, POOLS)
        check_one_of("Video", "temporal_embed", self.temporal_embed, TEMPORAL)
        if self.frames is not None:
            check_positive("Video", "frames", self.frames)
        if self.pool_heads is not None:
            check_positive("Video", "pool_heads", self.pool_heads)
            if self.pool != "attentive":
                raise ValueError(f"Video: pool={self.pool!r} has no heads; leave out pool_heads")
        check_one_of("Video", "inflate", self.inflate, CARRIERS)
        check_one_of("Video", "kernel", self.kernel, ("mean", "centre"))
        if self.inflate == "joint":
            self._check_joint()
        elif self.temporal_embed != "none" and self.pool != "attentive":
            raise ValueError(
                f"Video: pool={self.pool!r} adds up frames, which gives the same in any order, so "
                f"temporal_embed={self.temporal_embed!r} could tell nothing; take pool='attentive'"
            )

    def _check_joint(self) -> None:
        if self.pool == "mean_cls":
            raise ValueError(
                "Video: inflate='joint' has no class token, so pool='mean_cls' finds none; take "
                "pool='attentive' or pool='mean_tokens'"
            )
        if self.frames is not None and self.frames % TUBELET:
            raise ValueError(
                f"Video: inflate='joint' makes tokens of {TUBELET} frames each, which {self.frames} frames "
                "do not fill; give an even number"
            )

    def __repr__(self) -> str:
        return settings_text(self)


def as_video(given: Video | str | None) -> Video | None:
    """Settings as they are, read from their text, or none."""
    if given is None or isinstance(given, Video):
        return given
    if not isinstance(given, str):
        raise ValueError(f"video must be Video(...) or its text, got {given!r}")
    return parse_video(given)


def parse_video(text: str) -> Video:
    """`parse_video("Video(pool='mean_cls')") == Video(pool="mean_cls")`; ValueError for anything else."""
    from vitrim.methods.notation import read_settings  # and with it every method

    return read_settings(text, Video, "video settings")
