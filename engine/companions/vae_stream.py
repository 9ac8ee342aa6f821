"""HunyuanVideo's decoder as a stream: W latents in, 4 W frames out, with segments joined as in FramePack.

FramePack decodes each segment together with the previous one, 2 W latents to 8 W - 3 frames, and fades
linearly from the old decoding of the previous segment (4 W - 3 of its frames are in both) to the new one. It
thus changes frames afterwards, which a stream cannot. `late` chooses one of two solutions:

- late: frames wait until their fade is known, for 4 W - 3 frames. The stream is FramePack's own video with
that delay: a scene starts with its first frame frozen for 4 W - 3 frames, and its last 4 W - 3 frames are
never shown. A control shows 4 W - 3 frames after the segment that applied it.
- not late: frames are shown at once. Only the purpose of the fade remains, no jump between segments: the
difference between the last frame shown and the new decoding of the same frame is added to the next frames and
fades out over SEAM frames. This is our own method; it has only been tried with random weights.

A scene starts with the start picture's latent and the first segment, decoded together to 4 W + 1 frames, as
in FramePack. Without a start latent (`begin`), the segment's first latent takes its place.

The state is one vector: the phase, the last W latents, and the frames that the next segment needs, one number
per pixel. Legend: B batch, W latent frames of a segment, C latent channels, h w latent size, S size of the
state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.companions.vae import Vae
from engine.errors import InvalidInput
from engine.model.pixels import to_bytes, to_unit

SEAM = 4  # frames over which a difference at a seam fades out: those of one latent
CELL = 64  # pixels of one latent position
NOTHING, BEGUN, RUNNING = 0, 1, 2  # phases: the last latent is none, the start picture's, a segment's


class VaeDecoder(nn.Module):
    """Eager PyTorch. Rows at the start of a scene are decoded separately from rows in the middle."""

    def __init__(self, vae: Vae, *, segment: int, late: bool) -> None:
        super().__init__()
        self.vae = vae
        self.segment = segment
        self.late = late
        self.overlap = 4 * segment - 3
        self.kept = self.overlap if late else 1  # frames in the state; if late, also the delay of every frame

    def state_size(self, h: int, w: int) -> int:
        return 1 + (self.segment * self.vae.channels + self.kept * CELL) * h * w

    def begin(self, start: Tensor) -> Tensor:
        """The state for a scene that starts from a picture: (B, 1, C, h, w) → (B, S). Without a picture the
        state is all zeros."""
        b, _, _, h, w = start.shape
        state = start.new_zeros(b, self.state_size(h, w), dtype=torch.float32)
        state[:, 0] = BEGUN
        size = start[0].numel()
        end = 1 + self.segment * size
        state[:, end - size : end] = start.flatten(1)
        return state

    @torch.no_grad()
    def forward(self, latents: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, W, C, h, w), (B, S) → frames (B, 4 W, 3, H, W) uint8, next state (B, S).

        Raises InvalidInput if the shapes are not those of this decoder."""
        b, length, _, h, w = latents.shape
        if length != self.segment:
            raise InvalidInput(
                f"{length} latents were given, but the decoder takes {self.segment}", field="latents"
            )
        if state.shape != (b, self.state_size(h, w)):
            raise InvalidInput(
                f"the state has shape {tuple(state.shape)} instead of {(b, self.state_size(h, w))}",
                field="state",
            )
        phase, previous, kept = self._read(state, h, w)
        line = latents.new_empty(b, 2 * self.overlap + 3, 3, 8 * h, 8 * w, dtype=torch.float32)
        for rows, decode in ((phase < RUNNING, self._first), (phase == RUNNING, self._next)):
            if rows.any():
                line[rows] = decode(latents[rows], previous[rows], kept[rows], phase[rows])
        shown = to_bytes(line)
        frames = shown[:, : 4 * length] if self.late else shown[:, -4 * length :]
        return frames, torch.cat(
            [
                torch.full_like(state[:, :1], RUNNING),
                latents.flatten(1).float(),
                pack(shown[:, -self.kept :]),
            ],
            1,
        )

    def _first(self, latents: Tensor, previous: Tensor, kept: Tensor, phase: Tensor) -> Tensor:
        """The first frame, repeated for the length of an overlap, then the segment: 8 W - 3 frames."""
        begun = (phase == BEGUN)[:, None, None, None, None]
        start = torch.where(begun, previous[:, -1:], latents[:, :1])
        frames = self.vae.decode(torch.cat([start, latents], 1))
        return torch.cat([frames[:, :1].expand(-1, self.overlap, -1, -1, -1), frames[:, 1:]], 1)

    def _next(self, latents: Tensor, previous: Tensor, kept: Tensor, phase: Tensor) -> Tensor:
        """The previous segment and this one, decoded together without a jump from the frames already shown:
        8 W - 3 frames."""
        frames = self.vae.decode(torch.cat([previous, latents], 1))
        if self.late:
            fade = torch.linspace(1, 0, self.overlap, device=frames.device)[:, None, None, None]
            frames[:, : self.overlap] = fade * kept + (1 - fade) * frames[:, : self.overlap]
        else:
            fade = torch.linspace(1, 0, SEAM + 1, device=frames.device)[1:, None, None, None]
            jump = kept - frames[:, self.overlap - 1 : self.overlap]
            frames[:, self.overlap : self.overlap + SEAM] += fade * jump
        return frames

    def _read(self, state: Tensor, h: int, w: int) -> tuple[Tensor, Tensor, Tensor]:
        """Phase (B,), previous latents (B, W, C, h, w), kept frames (B, kept, 3, H, W) in [-1, 1]."""
        phase, latents, pixels = state.split(
            [1, self.segment * self.vae.channels * h * w, self.kept * CELL * h * w], 1
        )
        previous = latents.unflatten(1, (self.segment, self.vae.channels, h, w))
        return phase[:, 0], previous, to_unit(unpack(pixels, self.kept, 8 * h, 8 * w))


def pack(frames: Tensor) -> Tensor:
    """(B, T, 3, H, W) uint8 → (B, T H W) fp32: the three bytes of a pixel as one integer below 2^24, which
    fp32 represents exactly. That is a third of the size."""
    red, green, blue = frames.int().unbind(2)
    return (red * 65536 + green * 256 + blue).flatten(1).float()


def unpack(packed: Tensor, frames: int, height: int, width: int) -> Tensor:
    """The inverse of `pack`: (B, T H W) → (B, T, 3, H, W) uint8."""
    pixels = packed.int().unflatten(1, (frames, height, width))
    return torch.stack([pixels >> 16, (pixels >> 8) & 255, pixels & 255], 2).to(torch.uint8)
