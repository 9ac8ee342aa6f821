"""Users' own videos as training material: shots, clips for the autoencoder, and chains for the DiT.

The latents of every shot are kept on disk, in pieces of equal length in the order of the video. The pool in
memory is bounded and goes through all pieces in a new random order each time. Actions are unknown, so all are
idle. A video's caption applies to all of it.

Legend: T frames, L latent frames of a piece, C h w latent, N sum of classes of a prompt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from engine.clips import FrameFormat
from engine.errors import InvalidInput
from engine.model.config import ModelConfig
from engine.model.pixels import to_unit
from engine.model.wander.autoencoder import FRAMES, Autoencoder
from engine.training.data.chains import Chains, chains_of
from engine.training.data.latents import PART, Pool, cache_folder
from engine.training.data.ring import Ring, part_generator
from engine.training.data.shots import Shot, differences, find_shots
from engine.training.data.videos import Video, find_videos, read_frames
from engine.training.data.windows import sample_windows
from engine.training.recipe import Data, Phase

HELD_OUT_EVERY = 10  # pieces
READING = "upright"  # how frames are read; part of the cache's key


@dataclass(frozen=True)
class Take:
    """A video and one of its shots."""

    video: Video
    shot: Shot


class Footage:
    """All shots of a folder that are long enough and move. They are found once and kept in `cache`."""

    def __init__(self, folder: Path, screen: FrameFormat, *, least: int, cache: Path) -> None:
        """A shot has at least `least` frames. Raises InvalidInput."""
        self.screen, self.takes = screen, list[Take]()
        found, skipped = find_videos(folder), list[str]()
        for video in found:
            about = video.path.stat()
            key = f"{video.path.resolve()} {about.st_size} {about.st_mtime_ns} {screen} {least} {READING}"
            path = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.shots.json"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    path.write_text(json.dumps(self._look(video, least)))
                except InvalidInput as error:
                    skipped.append(error.message.removeprefix("--videos: "))
                    print(f"skipped: {skipped[-1]}", flush=True)
                    continue
            self.takes += [Take(video, Shot(*shot)) for shot in json.loads(path.read_text())]
        if skipped:
            print(f"{len(skipped)} of {len(found)} videos skipped", flush=True)
        if len(skipped) == len(found):
            raise InvalidInput(f"--videos: none in {folder} can be used: {skipped[0]}", field="videos")
        if not self.takes:
            raise InvalidInput(
                f"--videos: no shot in {folder} has {least} frames at {screen.fps} per second and moves "
                "enough",
                field="videos",
            )

    def _look(self, video: Video, least: int) -> list[Shot]:
        found, before = [torch.empty(0)], None
        for frames in read_frames(video.path, self.screen):
            found.append(differences(frames, before))
            before = frames[-1]
        shots = find_shots(torch.cat(found), least)
        print(
            f"{video.path.name}: {len(shots)} shots, {sum(s.stop - s.start for s in shots)} frames",
            flush=True,
        )
        return shots

    def clips(self, count: int, generator: torch.Generator, *, frames: int) -> Tensor:
        """Random clips for the autoencoder, (count, frames, 3, H, W) uint8."""
        lengths = torch.tensor([float(t.shot.stop - t.shot.start) for t in self.takes])
        out = []
        for number in torch.multinomial(lengths, count, replacement=True, generator=generator).tolist():
            shot = self.takes[number].shot
            latest = max(shot.start, shot.stop - frames)
            start = int(torch.randint(shot.start, latest + 1, (), generator=generator))
            out.append(self.read(self.takes[number], start, start + frames))
        return torch.stack(out)

    def read(self, take: Take, start: int, stop: int) -> Tensor:
        """Frames of a shot. The last one is repeated for frames that a damaged video lacks."""
        parts = list(read_frames(take.video.path, self.screen, start, stop))
        if not parts:
            raise InvalidInput(f"--videos: {take.video.path} ends before frame {start}", field="videos")
        frames = torch.cat(parts)
        missing = stop - start - len(frames)
        return torch.cat([frames, frames[-1:].expand(missing, -1, -1, -1)]) if missing > 0 else frames


class Pieces:
    """The latents of all shots, encoded once and cut into pieces of `length` latent frames, in order."""

    def __init__(self, footage: Footage, autoencoder: Autoencoder, length: int, cache: Path) -> None:
        self.length, self.where = length, list[tuple[Path, int, str]]()  # file, first latent frame, caption
        folder = cache_folder(cache, autoencoder)
        folder.mkdir(parents=True, exist_ok=True)
        for take in footage.takes:
            about = take.video.path.stat()
            key = f"{take.video.path.resolve()} {about.st_mtime_ns} {take.shot[:2]} {READING}"
            path = folder / f"shot-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
            count = (take.shot.stop - take.shot.start) // FRAMES
            if not path.exists():
                latents = self._encode(footage, autoencoder, take, count)
                save_file({"latents": latents}, path.with_suffix(".tmp"))
                path.with_suffix(".tmp").replace(path)
            firsts = [*range(0, count - length, length), count - length]
            self.where += [(path, first, take.video.caption) for first in firsts]

    @torch.no_grad()
    def _encode(self, footage: Footage, autoencoder: Autoencoder, take: Take, count: int) -> Tensor:
        device, out = next(autoencoder.parameters()).device, []
        start = take.shot.start
        for at in range(start, start + count * FRAMES, 16 * FRAMES):
            frames = footage.read(take, at, min(at + 16 * FRAMES, start + count * FRAMES))
            out.append(autoencoder.encode(to_unit(frames[None].to(device)))[0].half().cpu())
        return torch.cat(out)

    def __len__(self) -> int:
        return len(self.where)

    def read(self, numbers: list[int]) -> Tensor:
        """(E, L, C, h, w) fp16."""
        out = []
        for path, first, _ in (self.where[n] for n in numbers):
            with safe_open(path, "pt") as f:
                out.append(f.get_slice("latents")[first : first + self.length])
        return torch.stack(out)


class FootageMaterial:
    """Chains of consecutive clips of a video, from a pool that is renewed piece by piece."""

    def __init__(
        self,
        footage: Footage,
        autoencoder: Autoencoder,
        read: Callable[[list[str]], Tensor],
        c: ModelConfig,
        data: Data,
        *,
        seed: int,
        cache: Path,
    ) -> None:
        """`read`: captions → probabilities of their attributes, (E, N)."""
        self.config, self.seed = c, seed
        self.device = next(autoencoder.parameters()).device
        self.pieces = Pieces(footage, autoencoder, data.length, cache)
        captions = sorted({caption for _, _, caption in self.pieces.where})
        said = dict(zip(captions, read(captions), strict=True))
        self.said = torch.stack([said[caption] for _, _, caption in self.pieces.where])
        every = range(len(self.pieces))
        self.out = [n for n in every if n % HELD_OUT_EVERY == HELD_OUT_EVERY - 1] or [len(self.pieces) - 1]
        self.trained = [n for n in every if n not in set(self.out)] or self.out
        parts = max(1, min(data.limit, len(self.trained)) // PART)
        self.rows = min(PART, len(self.trained))
        self.room: tuple[Pool, Tensor] | None = None  # the pool, and the piece that each episode is
        self.ring = Ring(self._make, self._put, start=parts, limit=parts, every=data.renew_every)

    def prepare(self, step: int, phases: tuple[Phase, ...]) -> None:
        if any(p.journeys for p in phases):
            raise InvalidInput(
                "journeys: nobody knows the way in a video; set 0 in every phase", field="journeys"
            )
        self.ring.advance(step)

    def draw(self, step: int, phase: Phase, clips: int) -> tuple[Chains, Phase]:
        self.ring.advance(step)
        assert self.room is not None
        pool, which = self.room
        return self._chains(
            pool, which, max(1, phase.batch // clips), clips, phase.prefix, phase.fresh
        ), phase

    def held_out(self, count: int, segments: int, *, fresh: float = 0.0) -> Chains:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            segments = min(segments, self.pieces.length // self.config.segment)
            return self._chains(self._pool(self.out), torch.tensor(self.out), count, segments, 8, fresh)

    def _chains(self, pool: Pool, which: Tensor, count: int, clips: int, prefix: int, fresh: float) -> Chains:
        windows = sample_windows(pool, count, self.config.segment, clips, fresh=fresh, long_scene=clips > 1)
        chains = chains_of(pool, windows, clips, prefix, self.config)
        said = self.said[which[windows.episode]]
        return replace(chains, prompts=said[:, None].expand(-1, clips, -1))

    def _pool(self, numbers: list[int]) -> Pool:
        latents = self.pieces.read(numbers).to(self.device)
        still = torch.zeros(latents.shape[:2], dtype=torch.int64)
        return Pool(latents, still[..., None].expand(-1, -1, 5), still)

    def _make(self, part: int) -> list[int]:
        """The pieces of one part. Every piece is used once, in random order, before any is used again."""
        out = []
        for n in range(part * self.rows, (part + 1) * self.rows):
            generator = part_generator(self.seed, "pieces", n // len(self.trained))
            order = torch.randperm(len(self.trained), generator=generator)
            out.append(self.trained[int(order[n % len(self.trained)])])
        return out

    def _put(self, place: int, numbers: list[int]) -> None:
        made = self._pool(numbers)
        if self.room is None:
            episodes = self.rows * self.ring.limit
            frame = tuple(made.latents.shape[2:])
            room = Pool.empty(episodes, self.pieces.length, frame, self.device)
            self.room = room, torch.zeros(episodes, dtype=torch.int64)
        self.room[0].put(place * self.rows, made)
        self.room[1][place * self.rows : (place + 1) * self.rows] = torch.tensor(numbers)
