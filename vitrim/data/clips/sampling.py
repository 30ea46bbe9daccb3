"""How clips are chosen from videos and changed: options of the data spec, so that a run's record has them."""

from dataclasses import asdict, dataclass
from typing import Literal, get_args

from vitrim.checks import check_one_of, check_positive
from vitrim.data.source import Spec

Augmenting = Literal["run", "k400", "ssv2"]
MOST = 1024  # frames of a clip, views and crops: more is a slip of the hand


@dataclass(frozen=True)
class ClipSampling:
    """What `DataSource.clips` says.

    Attributes:
        frames: of one clip.
        stride: between them; 0 takes one frame of each of `frames` equal segments instead.
        views: clips of a video in evaluation, spread over its time.
        crops: of each of them in evaluation: 1 is the centre, 3 go along the longer side.
        augment: "run" changes training clips as the settings of the run say, "k400" and "ssv2" as the
            pipelines of these data sets do.
    """

    frames: int = 8
    stride: int = 0
    views: int = 1
    crops: int = 1
    augment: Augmenting = "run"

    def __post_init__(self) -> None:
        for name in ("frames", "views"):
            check_positive("clips", name, getattr(self, name))
        for name in ("frames", "views", "stride"):
            if not 0 <= getattr(self, name) <= MOST:
                raise ValueError(f"clips: {name} must be at most {MOST:,}, got {getattr(self, name)}")
        check_one_of("clips", "crops", self.crops, (1, 3))
        check_one_of("clips", "augment", self.augment, get_args(Augmenting))
        if self.stride == 0 and self.views > 1:
            raise ValueError(
                f"clips: stride 0 takes frames of the whole video, so there is one view, not {self.views}; "
                "give a stride, or leave views out"
            )


OPTIONS = ("frames", "stride", "views", "crops", "augment")


def sampling_of(spec: Spec, usual: ClipSampling) -> tuple[Spec, ClipSampling]:
    """What a spec asks for, and the spec with all of it written down: usual values may change one day."""
    numbers = {name: spec.integer(name, getattr(usual, name)) for name in OPTIONS[:4]}
    augment = spec.options.get("augment", usual.augment)
    found = ClipSampling(**numbers, augment=augment)  # type: ignore[arg-type]
    return spec.with_options(**asdict(found)), found
