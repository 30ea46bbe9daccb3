"""What is about single images says so in a sentence where it is given a video model."""

from vitrim.network.model import StagedViT
from vitrim.video.model import VideoModel


def refuse_clips(model: StagedViT, what: str) -> None:
    """Raise ValueError where `what` cannot be done with clips."""
    if isinstance(model, VideoModel):
        raise ValueError(
            f"{what} is for images, and this is a video model, which takes clips of {model.frames} frames; "
            "clips go with train, evaluate, predict, bench, costs and report"
        )
