"""Frames out of every kind of storage are the right ones; what is broken is said in one sentence."""

import io
import os
import struct
import sys

import numpy as np
import pytest
from drawn_clips import SIDE, STEP, number_of, numbered, write_frames, write_video
from PIL import Image

from vitrim.data import ImageError
from vitrim.data.clips.reader import ClipReader
from vitrim.data.clips.sampling import ClipSampling

READ = ClipReader(ClipSampling())
UNSTEADY = [0, 100, 150, 400, 410, 900, 1000, 1010, 1500, 1600, 1700, 3000]
STORED = {
    "mp4": lambda folder: write_video(folder / "clip.mp4", numbered()),
    "webm": lambda folder: write_video(folder / "clip.webm", numbered()),
    "vp8": lambda folder: write_video(folder / "clip.webm", numbered(), codec="libvpx"),
    "avi": lambda folder: write_video(folder / "clip.avi", numbered()),
    "h264 in avi": lambda folder: write_video(folder / "clip.avi", numbered(), codec="libx264"),
    "mkv": lambda folder: write_video(folder / "clip.mkv", numbered()),
    "unsteady mp4": lambda folder: write_video(folder / "clip.mp4", numbered(), UNSTEADY),
    "unsteady webm": lambda folder: write_video(folder / "clip.webm", numbered(), UNSTEADY),
    "folder": lambda folder: write_frames(folder / "clip", numbered()),
    "npy": lambda folder: saved(folder / "clip.npy", numbered()),
    "grey npy": lambda folder: saved(folder / "clip.npy", numbered()[..., 0]),
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A function that gives the clip of one way to store it, written once."""
    made = {}

    def clip(way):
        if way not in made:
            made[way] = STORED[way](tmp_path_factory.mktemp("clip"))
        return made[way]

    return clip


def saved(file, frames):
    np.save(file, frames)
    return file


def refusal(file) -> str:
    """The sentence, which names the file."""
    with pytest.raises(ImageError) as error:
        READ.frames(str(file), range)
    assert str(file) in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("way", STORED)
def test_the_frames_are_the_right_ones(stored, way):
    name = str(stored(way))
    asked = []
    every = READ.frames(name, lambda count: asked.append(count) or range(count))
    assert asked == [12] and [number_of(frame) for frame in every] == list(range(12))
    assert {(frame.mode, frame.size) for frame in every} == {("RGB", (SIDE, SIDE))}
    for chosen in ([11], [3], [0, 5, 10], [2, 2, 7, 7], [9, 1, 4]):
        assert [number_of(frame) for frame in READ.frames(name, lambda _, c=chosen: c)] == chosen
    assert [number_of(frame) for frame in READ.every_frame(name)] == list(range(12))
    assert number_of(READ(name)) in (5, 6)


def test_frames_in_a_folder_go_by_number_and_must_be_of_one_size(tmp_path):
    folder = write_frames(tmp_path / "clip", numbered(11))
    (folder / ".DS_Store").write_bytes(b"")
    (folder / "notes.txt").write_text("none of the frames")
    assert [number_of(frame) for frame in READ.frames(str(folder), range)] == list(range(11))
    Image.new("RGB", (16, 8)).save(folder / "frame99.png")
    assert "several sizes, 16 x 8 and 32 x 32" in refusal(folder)


def test_a_phone_s_turn_is_applied(tmp_path):
    """Four display matrices, written into the file's track header, and an angle that is not right."""
    pixels = numbered(2, 32, 64)
    pixels[:, :16] = 200  # the upper half is bright
    whole = write_video(tmp_path / "clip.mp4", pixels).read_bytes()
    place = whole.find(b"tkhd") + 4 + 40
    sides = {}
    for name, turn in {"right": (0, 1, -1, 0), "over": (-1, 0, 0, -1), "left": (0, -1, 1, 0)}.items():
        sides[name] = brightest(turned(tmp_path / f"{name}.mp4", whole, place, turn))
    assert sides == {"right": "right", "over": "bottom", "left": "left"}
    assert brightest(turned(tmp_path / "flip.mp4", whole, place, (1, 0, 0, -1))) == "bottom"
    assert "another angle" in refusal(turned(tmp_path / "odd.mp4", whole, place, (0.7, 0.7, -0.7, 0.7)))


def turned(file, whole, place, turn):
    a, b, c, d = (round(65536 * value) for value in turn)
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    file.write_bytes(whole[:place] + matrix + whole[place + 36 :])
    return file


def brightest(file) -> str:
    frame = np.asarray(READ.frames(str(file), lambda count: [1])[0])[..., 0].astype(float)
    rows, columns = np.array_split(frame, 2), np.array_split(frame, 2, axis=1)
    assert frame.shape in ((32, 64), (64, 32))
    means = dict(zip(("top", "bottom", "left", "right"), map(np.mean, (*rows, *columns)), strict=True))
    return max(means, key=means.get)


@pytest.mark.parametrize("way", ["mp4", "webm", "avi", "mkv"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.66, 0.99])
def test_a_truncated_file_is_said_and_never_taken_for_a_shorter_one(stored, tmp_path, way, share):
    whole = stored(way).read_bytes()
    file = tmp_path / stored(way).name
    file.write_bytes(whole[: int(share * len(whole))])
    sentence = refusal(file)
    assert "empty (0 bytes)" in sentence if not share else "cut short" in sentence or "damaged" in sentence


def test_an_index_in_front_does_not_hide_missing_frames(tmp_path):
    file = write_video(tmp_path / "clip.mp4", numbered(), movflags="faststart")
    file.write_bytes(file.read_bytes()[:-9])
    assert "9 bytes of it are missing" in refusal(file)


def test_damaged_pictures_and_headers_are_said(stored, tmp_path):
    whole = bytearray(stored("mp4").read_bytes())
    middle = whole.find(b"mdat") + 700
    (tmp_path / "pictures.mp4").write_bytes(whole[:middle] + b"\xaa" * 60 + whole[middle + 60 :])
    assert "damaged" in refusal(tmp_path / "pictures.mp4")
    table = whole.find(b"stts")
    (tmp_path / "table.mp4").write_bytes(whole[: table - 4] + b"\xaa" * 24 + whole[table + 20 :])
    refusal(tmp_path / "table.mp4")
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 20)
    assert "no video of the kinds" in refusal(tmp_path / "noise.mp4")


def test_sound_alone_holds_no_pictures(tmp_path):
    import av

    file = tmp_path / "clip.mp4"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        for packet in (*stream.encode(frame), *stream.encode()):
            container.mux(packet)
    assert "only sound" in refusal(file)


def test_a_list_of_other_files_is_not_followed(stored, tmp_path):
    """A playlist is text that names files and addresses; somebody else's must not be opened."""
    for name, text in {
        "clip.mp4": f"ffconcat version 1.0\nfile {stored('mp4')}\n",
        "list.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{stored('mp4')}\n#EXT-X-ENDLIST\n",
    }.items():
        (tmp_path / name).write_text(text)
        assert "no video of the kinds" in refusal(tmp_path / name)


def test_pillow_s_limit_holds_for_frames(stored, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", SIDE * SIDE // 4)
    for way in ("mp4", "webm", "npy"):
        assert "32 x 32 pixels, more than" in refusal(stored(way))


def test_arrays_that_are_no_clips(tmp_path):
    for frames, sentence in {
        (4, 8, 8, 3): "float64",
        (4, 8, 8, 4): r"[4, 8, 8, 4]",
        (8, 8): "[8, 8]",
        (0, 8, 8, 3): "holds no frames",
    }.items():
        dtype = np.float64 if sentence == "float64" else np.uint8
        assert sentence in refusal(saved(tmp_path / "clip.npy", np.zeros(frames, dtype)))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert "without unpickling" in refusal(tmp_path / "objects.npy")
    promised = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        promised, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**4, 10**4, 3)}
    )
    (tmp_path / "huge.npy").write_bytes(promised.getvalue() + b"\0" * 100)
    assert "damaged" in refusal(tmp_path / "huge.npy")


@pytest.mark.skipif(os.name == "nt", reason="named pipes of Unix")
def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "named pipe, not a video" in refusal(tmp_path / "pipe.mp4")
    assert "there is no clip" in refusal(tmp_path / "absent.mp4")
    (tmp_path / "round.mp4").symlink_to("round.mp4")
    assert "leads back to itself" in refusal(tmp_path / "round.mp4")
    (tmp_path / "empty").mkdir()
    assert "holds no frames" in refusal(tmp_path / "empty")


def test_without_pyav_the_way_to_it_is_said(stored, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install 'vitrim\[video\]'"):
        READ.frames(str(stored("mp4")), range)
    assert len(READ.frames(str(stored("npy")), range)) == 12  # which needs no decoder


def test_levels_of_the_frames_are_what_was_drawn(stored):
    """Colours come through compression within a few levels: no channel is swapped or clipped."""
    frame = np.asarray(READ.frames(str(stored("mp4")), lambda count: [7])[0]).astype(int)
    assert abs(frame - 7 * STEP).max() <= 3
