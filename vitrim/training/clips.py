"""What a run on clips settles before it starts: how frames become one answer, and how many there are."""

from __future__ import annotations

from dataclasses import replace

from vitrim.data import DataSource
from vitrim.settings.run_plan import RunPlan
from vitrim.video.settings import Video, parse_video


def with_video(plan: RunPlan, source: DataSource) -> RunPlan:
    """The plan with what a run on these data needs: on clips, DyT's video model where nothing else was asked
    for."""
    found = video_for(plan.video, source)
    return plan if found is None or plan.video is not None else replace(plan, video=repr(Video()))


def video_for(asked: str | None, source: DataSource) -> Video | None:
    """The video settings of a run with the frames of its data, refused where the two do not fit."""
    clips = source.clips
    if clips is None:
        if asked is not None:
            raise ValueError(
                f"video={asked} is for clips, but {source.spec} has images; give clips, such as "
                "video:FILE or video-folder:PATH, or leave video out"
            )
        return None
    video = Video() if asked is None else parse_video(asked)
    if video.frames not in (None, clips.frames):
        raise ValueError(
            f"video={asked} is for clips of {video.frames} frames, but {source.spec} has clips of "
            f"{clips.frames}; leave frames out, or give the data ?frames={video.frames}"
        )
    return replace(video, frames=clips.frames)
