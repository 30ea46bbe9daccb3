"""`JointVideoModel`: tokens of two frames each, and all tokens of a clip attend to each other.

The second way to run clips: tubelets in place of frames (as in VideoMAE), on an image backbone's weights. The
patch kernel W [D, C, p, p] is inflated over time and gains what it learns,

    kernel over two frames = (W/2, W/2) + U  or  (0, W) + U,      U [D, C, 2, p, p] zero at the start, trained

so the first term is the frozen (or tuned) image kernel on the mean of both frames, or on the later one.
Position embeddings are the image's, repeated over time; a temporal embedding is added before the first block.
The class token is left out: the grid is (T/2, rows, columns), which reducers that need no class token take as
it is. A checkerboard of it has the parity t + i + j, so `Bipartite` merges across frames.
"""

from dataclasses import replace

from timm.layers import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitrim.backbones.packed import Images
from vitrim.backbones.places import Places
from vitrim.network.model import StagedViT
from vitrim.tokens.state import Clips, TokenState
from vitrim.video.model import FRAMES, VideoModel
from vitrim.video.settings import TUBELET


class JointVideoModel(VideoModel):
    """As `VideoModel`, with a row for each clip: made by `compose(..., video="Video(inflate='joint')")`.

    Attributes:
        tubelets: U, what the kernel over two frames is beside the inflated image kernel. It trains.
    """

    def __init__(
        self,
        image_model: StagedViT,
        num_frames: int = FRAMES,
        pool: str = "attentive",
        temporal_embed: str = "none",
        pool_heads: int | None = None,
        inflate: str = "joint",
        kernel: str = "mean",
    ) -> None:
        _check_backbone(image_model)
        super().__init__(image_model, num_frames, pool, temporal_embed, pool_heads, inflate, kernel)
        layer = self.vit.patch_embed.proj
        shape = TUBELET, *layer.kernel_size
        self.tubelets = nn.Conv3d(
            layer.in_channels, self.width, shape, shape, bias=False,
            device=layer.weight.device, dtype=layer.weight.dtype,
        )  # fmt: skip
        nn.init.zeros_(self.tubelets.weight)

    def steps(self, frames: int) -> int:
        """One for two frames."""
        return frames // TUBELET

    @property
    def grid(self) -> tuple[int, ...]:
        """(T/2, rows, columns)"""
        return self.steps(self.frames), *super().grid

    @property
    def prefix(self) -> int:
        """None: there is no class token."""
        return 0

    @property
    def has_class_token(self) -> bool:
        return False

    def rows_read(self) -> int | None:
        return 1 if self.side is not None and not self.side.reads_last else None

    def take_parts(self, other: StagedViT, plugged: bool = True) -> None:
        super().take_parts(other, plugged)
        if isinstance(other, JointVideoModel):
            self.tubelets = other.tubelets

    def behind_blocks(self) -> tuple[nn.Module, ...]:
        """Tubelets and temporal embedding stand before the blocks."""
        pools = () if self.clip_pool is None else (self.clip_pool,)
        return (*StagedViT.behind_blocks(self), *pools)

    def over_time(self) -> tuple[nn.Module, ...]:
        return (*super().over_time(), self.tubelets)

    def begin(self, images: Images, history: bool = False) -> tuple[TokenState, list[Places]]:
        """The state before the first block: a row for each view of each clip."""
        clips = self._check_clips(images)
        views = clips.shape[1] if clips.ndim == 6 else 1
        clips = clips.flatten(0, 1) if clips.ndim == 6 else clips  # [B*V, C, T, height, width]
        pairs = clips.unflatten(2, (-1, TUBELET))  # [B*V, C, T/2, 2, height, width]
        one = pairs.mean(3) if self.video.kernel == "mean" else pairs[:, :, :, TUBELET // 2]
        state, places = StagedViT.begin(self, one.transpose(1, 2).flatten(0, 1), history)
        steps = pairs.shape[2]
        own = state.tokens[:, -state.source.shape[1] :]  # the image's patches, without its prefix
        tokens = own.unflatten(0, (-1, steps)).flatten(1, 2)  # [B*V, T/2*N, D]
        tokens = tokens + self.tubelets(clips).flatten(2).transpose(1, 2)
        if self.times is not None:
            moved = self.times(steps).repeat_interleave(own.shape[1], 0)  # [T/2*N, D]
            tokens = tokens + moved.to(tokens.dtype)
        joint = TokenState.start(tokens, 0, (steps, *state.grid))
        side = () if self.side is None else (self.side.start(joint),)
        return replace(joint, by_products=self.by_products, side=side, clips=Clips(views, 1)), places

    def _check_clips(self, images: Images) -> Tensor:
        clips = super()._check_clips(images)
        if clips.shape[-3] % TUBELET:
            raise ValueError(
                f"the clips have {clips.shape[-3]} frames, of which tokens of {TUBELET} frames each cannot "
                "be made; give an even number"
            )
        return clips


def _check_backbone(image_model: StagedViT) -> None:
    """Refuse what has no plain patch kernel and no table of places to repeat."""
    vit = image_model.vit
    plain = type(vit) is VisionTransformer and type(vit.patch_embed) is PatchEmbed
    if not plain or not isinstance(vit.norm_pre, nn.Identity) or vit.dynamic_img_size:
        raise ValueError(
            "Video: inflate='joint' is for timm's plain VisionTransformer of one image size (not "
            f"{type(vit).__name__} with stems, norms before the blocks or places in attention); "
            "use inflate='none'"
        )
    if image_model.methods:
        raise ValueError(
            "Video: inflate='joint' changes the grid that methods are made for; give it to compose(..., "
            "video=...) together with the methods"
        )
