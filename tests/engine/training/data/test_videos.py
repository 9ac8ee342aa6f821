"""A folder of somebody's own videos: captions, frames in time, cuts, stillness, and latents in order."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.clips import FrameFormat
from engine.commands.train import main
from engine.errors import InvalidInput
from engine.training.autoencoder import Clips
from engine.training.data.footage import Footage, FootageMaterial, Pieces
from engine.training.data.shots import differences, find_shots
from engine.training.data.videos import find_videos, read_frames
from engine.training.recipe import Data, Phase
from engine.video import Mp4Writer
from engine.world.drawing.render import render
from engine.world.episodes import sample_episodes
from tests.rigs.engine import tiny

SCREEN = FrameFormat(160, 96, 16)
LENGTH = 4  # latent frames of a piece


def write(path: Path, frames: Tensor, *, fps: int = 16, scale: int = 1) -> None:
    with Mp4Writer(path, width=160, height=96, fps=fps, scale=scale) as out:
        for frame in frames:
            out.add(np.ascontiguousarray(frame.permute(1, 2, 0).numpy()))


@pytest.fixture(scope="module")
def rendered() -> Tensor:
    """(3, 32, 3, 96, 160): three walks through the built-in world."""
    episodes = sample_episodes(3, 8, torch.Generator().manual_seed(3), changes=0.0, journeys=1.0)
    return render(episodes)


@pytest.fixture(scope="module")
def folder(rendered: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One video with a cut in the middle, one of a single shot, one in which nothing moves."""
    path = tmp_path_factory.mktemp("videos")
    write(path / "cut.mp4", torch.cat([rendered[0], rendered[1]]))
    write(path / "long.mp4", rendered[2], scale=2)
    write(path / "still.mp4", rendered[2, :1].expand(32, -1, -1, -1))
    for name in ("cut", "still"):
        (path / f"{name}.txt").write_text(f"a {name} video\n")
    (path / "more.jsonl").write_text(json.dumps({"file": "long.mp4", "caption": "a long walk"}) + "\n")
    return path


def footage(folder: Path, cache: Path) -> Footage:
    return Footage(folder, SCREEN, least=4 * LENGTH, cache=cache)


def test_captions_stand_beside_videos_or_in_lines(folder: Path) -> None:
    found = {v.path.name: v.caption for v in find_videos(folder)}
    assert found == {"cut.mp4": "a cut video", "long.mp4": "a long walk", "still.mp4": "a still video"}


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"--videos: .*is no folder"):
        find_videos(tmp_path / "none")
    with pytest.raises(InvalidInput, match="has none"):
        find_videos(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(InvalidInput, match=r"a.mp4 has no caption: write a.txt"):
        find_videos(tmp_path)
    (tmp_path / "a.txt").write_text("a walk")
    with pytest.raises(InvalidInput, match=r"a.mp4 cannot be read"):
        footage(tmp_path, tmp_path / "cache")
    (tmp_path / "list.jsonl").write_text('{"file": "b.mp4"}\n')
    with pytest.raises(InvalidInput, match="line 1"):
        find_videos(tmp_path)
    (tmp_path / "list.jsonl").write_text('{"file": "b.mp4", "caption": "x"}\n')
    with pytest.raises(InvalidInput, match=r"b.mp4 is listed and not there"):
        find_videos(tmp_path)


def test_frames_come_at_their_time_whatever_the_video_runs_at(rendered: Tensor, tmp_path: Path) -> None:
    write(tmp_path / "slow.mp4", rendered[0], fps=8)
    whole = torch.cat(list(read_frames(tmp_path / "slow.mp4", SCREEN)))
    assert len(whole) == 63  # each frame twice; how long the last one lasts nobody says
    assert torch.equal(whole[0:62:2], whole[1:63:2])
    half = torch.cat(list(read_frames(tmp_path / "slow.mp4", FrameFormat(160, 96, 4))))
    assert len(half) == 16
    assert torch.equal(half[1], whole[4])


def test_reading_from_the_middle_is_reading_all_and_cutting(folder: Path) -> None:
    whole = torch.cat(list(read_frames(folder / "cut.mp4", SCREEN)))
    assert whole.shape == (64, 3, 96, 160)
    part = torch.cat(list(read_frames(folder / "cut.mp4", SCREEN, 21, 37)))
    assert torch.equal(part, whole[21:37])


def test_other_sizes_cover_the_screen_and_are_cut_at_the_middle(folder: Path, rendered: Tensor) -> None:
    frames = torch.cat(list(read_frames(folder / "long.mp4", SCREEN)))
    assert frames.shape == (32, 3, 96, 160)
    assert float((frames.float() - rendered[2].float()).abs().mean()) < 4
    (square,) = read_frames(folder / "long.mp4", FrameFormat(48, 48, 16), 0, 1)
    narrow = frames[0, :, :, 32:128]
    small = torch.nn.functional.avg_pool2d(narrow.float(), 2)
    assert float((square[0].float() - small).abs().mean()) < 12


def test_a_cut_is_found_and_motion_is_not_a_cut(rendered: Tensor) -> None:
    d = differences(torch.cat([rendered[0], rendered[1]]))
    assert [(s.start, s.stop) for s in find_shots(d, 8)] == [(0, 32), (32, 64)]
    chunks = [differences(rendered[0, :20]), differences(rendered[0, 20:], rendered[0, 19])]
    torch.testing.assert_close(torch.cat(chunks), differences(rendered[0]))


def test_what_hardly_moves_or_never_rests_or_is_short_is_left_out() -> None:
    assert find_shots(torch.full((40,), 0.0002), 8) == []
    assert find_shots(torch.full((40,), 0.2), 8) == []
    assert find_shots(torch.full((40,), 0.02), 41) == []
    assert len(find_shots(torch.full((40,), 0.02), 8)) == 1


def test_shots_are_looked_for_once(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = footage(folder, tmp_path)
    assert [(t.video.path.name, t.shot[:2]) for t in first.takes] == [
        ("cut.mp4", (0, 32)), ("cut.mp4", (32, 64)), ("long.mp4", (0, 32)),
    ]  # fmt: skip
    assert "still.mp4: 0 shots" in capsys.readouterr().out
    assert footage(folder, tmp_path).takes == first.takes
    assert capsys.readouterr().out == ""


def test_the_autoencoder_sees_clips_of_one_shot(folder: Path, tmp_path: Path) -> None:
    clips = footage(folder, tmp_path).clips(6, torch.Generator().manual_seed(1), frames=12)
    assert clips.shape == (6, 12, 3, 96, 160)
    assert all(float(differences(clip).max()) < 0.08 for clip in clips)


@torch.no_grad()
def test_pieces_are_in_the_order_of_the_video_and_cover_it(folder: Path, tmp_path: Path) -> None:
    encoder = tiny.world_model().autoencoder
    found = footage(folder, tmp_path)
    pieces = Pieces(found, encoder, 3, tmp_path)
    assert [first for _, first, _ in pieces.where] == 3 * [0, 3, 5]
    frames = found.read(found.takes[1], 32 + 20, 32 + 32)
    wanted = encoder.encode(frames[None].float() / 127.5 - 1)[0]
    torch.testing.assert_close(pieces.read([5])[0].float(), wanted, atol=2e-2, rtol=1e-2)


OWN = """
[model]
preset = "wander"
dim = 32
heads = 1
double_blocks = 1
single_blocks = 1
[autoencoder]
steps = 2
batch = 2
config = { fine = 8, coarse = 8, decoder_fine = 8, decoder_coarse = 8, decoder_blocks = 1 }
[data]
length = 4
[[dit.phases]]
name = "teacher"
steps = 1
batch = 2
"""


@pytest.mark.slow
def test_the_command_trains_on_a_folder_of_videos(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"limit": 8, "held_out": 4, "statistics": 8}
    monkeypatch.setattr(Clips.__init__, "__kwdefaults__", few)
    (tmp_path / "own.toml").write_text(OWN)
    run = tmp_path / "run"
    assert main([str(tmp_path / "own.toml"), "--videos", str(folder), "--run", str(run)]) == 0
    said = capsys.readouterr().out
    assert "cut.mp4: 2 shots, 64 frames" in said
    assert {"autoencoder.final.pt", "dit.final.pt", "dit.samples.png"} <= {p.name for p in run.iterdir()}
    assert main(["few-step", "--videos", str(folder), "--run", str(run)]) == 2
    assert "no shot in" in capsys.readouterr().err  # the built-in world's recipe wants 7 s


def test_chains_follow_a_video_under_its_caption(folder: Path, tmp_path: Path) -> None:
    c = tiny.DIT
    c = type(c)(**{**vars(c), "latent_height": 12, "latent_width": 20, "memory": type(c)().memory})
    asked: list[str] = []

    def read(captions: list[str]) -> Tensor:
        asked.extend(captions)
        return torch.eye(len(captions), sum(c.slots))

    material = FootageMaterial(
        footage(folder, tmp_path),
        tiny.world_model().autoencoder,
        read,
        c,
        Data(length=LENGTH, renew_every=1),
        seed=0,
        cache=tmp_path,
    )
    assert asked == ["a cut video", "a long walk"]
    phase = Phase(steps=1, batch=8, fresh=0.0)
    material.prepare(0, (phase,))
    torch.manual_seed(0)
    chains, same = material.draw(3, phase, 2)
    assert same == phase
    assert chains.targets.shape == (4, 2, 2, 16, 12, 20)
    assert set(chains.prompts.argmax(-1).flatten().tolist()) <= {0, 1}
    assert torch.equal(chains.prompts[:, 0], chains.prompts[:, 1])
    assert not chains.actions.any()
    held_out = material.held_out(2, 2)
    assert held_out.targets.shape[0] == 2
    with pytest.raises(InvalidInput, match="journeys"):
        material.prepare(0, (Phase(steps=1, journeys=0.5),))
