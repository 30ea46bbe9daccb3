"""From settings to the model that runs them."""

from vitrim.network.model import StagedViT
from vitrim.video.joint import JointVideoModel
from vitrim.video.model import VideoModel
from vitrim.video.settings import Video


def as_video_model(image_model: StagedViT, video: Video) -> VideoModel:
    """The image model for clips, by frames or jointly."""
    kind = JointVideoModel if video.inflate == "joint" else VideoModel
    return kind.of(image_model, video)
