"""TAEHV's decoder: HunyuanVideo's latents → frames, fast enough for live playback.

Re-implemented from the published network (github.com/madebyollin/taehv, MIT); only the tensor names are the
same, so that the public file fits. It takes the transformer's latents without a scale and returns pictures in
[0, 1]. Every latent gives four frames, from the first latent of a scene on.

Memory. Each block sees the previous frame at its own width and rate. The public streaming code keeps what
each block saw, 134 MB of fp32 for a 480 x 832 picture. Together, nine blocks look back over eight latents, so
the state here is those eight latents (3.2 MB), and the blocks run over them again, each only as far as the
next one needs: two latents' worth of work per call for any segment length. The frames are the same.

The start. The public code drops the first three frames of a video, since HunyuanVideo's first latent stands
for one frame and the three are untrained. A stream needs four frames, so those three are copies of the
fourth. With `begin` the start picture's latent is in the memory, and nothing needs replacing.

Legend: B batch, W latents, T = 4 W frames, C latent channels, h w latent size, S size of the state.
"""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.companions.catalogue import Catalogue
from engine.companions.files import CATALOGUE
from engine.companions.libraries import SHOWN, first_line
from engine.errors import InvalidInput, ModelFilesError

MEMORY = 8  # latents: three blocks, three blocks, and three at twice the rate
FRAMES = 4  # of one latent
START = FRAMES - 1  # frames of a scene that the public code drops
UNREADABLE = (OSError, ValueError, RuntimeError, AttributeError, EOFError, SafetensorError, UnpicklingError)
LATENT_CHANNELS = 16


class Block(nn.Module):
    """relu(x + three convolutions of [x | the previous frame]). The first frame of x is only context."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, width, h, w), real (B, T) 0 before the scene's start → both with one frame less."""
        before = x[:, :-1] * real[:, :-1, None, None, None]
        x = x[:, 1:]
        out = self.conv(torch.cat([x, before], 2).flatten(0, 1)).unflatten(0, x.shape[:2])
        return F.relu(out + x), real[:, 1:]


class Grow(nn.Module):
    """Each frame becomes `repeat` frames, by a 1 x 1 convolution."""

    def __init__(self, width: int, repeat: int) -> None:
        super().__init__()
        self.repeat = repeat
        self.conv = nn.Conv2d(width, width * repeat, 1, bias=False)

    def forward(self, x: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        b, t = x.shape[:2]
        x = self.conv(x.flatten(0, 1)).unflatten(1, (self.repeat, -1)).unflatten(0, (b, t)).flatten(1, 2)
        return x, real.repeat_interleave(self.repeat, 1)


class TinyDecoder(nn.Module):
    """Frozen. `decoder` holds the public network's layers under their public numbers."""

    def __init__(self, widths: tuple[int, int, int, int], channels: int = LATENT_CHANNELS) -> None:
        super().__init__()
        self.channels = channels
        layers: dict[str, nn.Module] = {"1": nn.Conv2d(channels, widths[0], 3, padding=1)}
        for first, repeat, width, after in zip((3, 9, 15), (1, 2, 2), widths, widths[1:], strict=False):
            layers |= {str(first + i): Block(width) for i in range(3)}
            layers[str(first + 4)] = Grow(width, repeat)
            layers[str(first + 5)] = nn.Conv2d(width, after, 3, padding=1, bias=False)
        layers["22"] = nn.Conv2d(widths[3], 3, 3, padding=1)
        self.decoder = nn.ModuleDict(layers)

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: torch.device | str,
        dtype: torch.dtype,
        catalogue: Catalogue = CATALOGUE,
        part: str = "taehv",
    ) -> TinyDecoder:
        """Load `folder`/taehv.safetensors or .pth, or another model's `part` with the same architecture.

        The widths follow from the tensors' shapes; the encoder is ignored. Raises ModelFilesError for a file
        that is missing, unreadable, or another model's."""
        catalogue.require(folder, part)
        names = catalogue.parts[part].files[0].split("|")
        path = next(folder / name for name in names if (folder / name).is_file())

        def refused(why: str) -> ModelFilesError:
            what, again = catalogue.parts[part].what, catalogue.fetch(part, folder)
            return ModelFilesError(f"{path} is not {what} ({why}); fetch it again: {again}", field=part)

        try:
            weights = {k: v for k, v in _read(path).items() if k.startswith("decoder.")}
        except UNREADABLE as e:
            raise refused(first_line(e)) from e
        try:
            widths = tuple(weights[f"decoder.{i}.weight"].shape[0] for i in (1, 8, 14, 20))
            model = cls((widths[0], widths[1], widths[2], widths[3]))
        except (KeyError, IndexError) as e:
            raise refused(f"it lacks {e}") from e
        wanted = model.state_dict()
        for key, weight in weights.items():
            if (
                key.endswith("conv.weight") and key in wanted
            ):  # a larger repeat: keep the last frames, as there
                weights[key] = weight[-wanted[key].shape[0] :]
        problems = [f"lacks {k}" for k in wanted if k not in weights]
        problems += [f"has an unknown {k}" for k in weights if k not in wanted]
        problems += [
            f"holds {k} as {tuple(weights[k].shape)} instead of {tuple(wanted[k].shape)}"
            for k in wanted
            if k in weights and weights[k].shape != wanted[k].shape
        ]
        if problems:
            more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
            raise refused("it " + ", ".join(problems[:SHOWN]) + more)
        model.load_state_dict(weights)
        return model.to(device=device, dtype=dtype).eval().requires_grad_(False)

    def state_size(self, h: int, w: int) -> int:
        """Length of the state vector: the number of latents in memory, and the latents."""
        return 1 + MEMORY * self.channels * h * w

    def begin(self, start: Tensor) -> Tensor:
        """The state for a scene that starts from a picture: (B, 1, C, h, w) → (B, S). Without a picture the
        state is all zeros."""
        b, _, _, h, w = start.shape
        state = start.new_zeros(b, self.state_size(h, w), dtype=torch.float32)
        state[:, 0] = 1
        state[:, -start[0].numel() :] = start.flatten(1)
        return state

    @torch.no_grad()
    def forward(self, latents: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, W, C, h, w), (B, S) → frames (B, 4 W, 3, H, W) uint8, next state (B, S).

        Raises InvalidInput if the state has another size."""
        b, length, c, h, w = latents.shape
        if state.shape != (b, self.state_size(h, w)):
            raise InvalidInput(
                f"the state has shape {tuple(state.shape)} instead of {(b, self.state_size(h, w))}",
                field="state",
            )
        known = state[:, 0]
        line = torch.cat([state[:, 1:].unflatten(1, (MEMORY, c, h, w)), latents], 1)  # oldest first
        real = torch.arange(MEMORY + length, device=state.device) >= MEMORY - known[:, None]
        frames = self._decode(line, real)
        at_start = torch.arange(FRAMES * length, device=state.device) < START
        replaced = (at_start & (known[:, None] == 0))[:, :, None, None, None]
        frames = torch.where(replaced, frames[:, START : START + 1], frames)
        known = (known + length).clamp(max=MEMORY)
        state_next = torch.cat([known[:, None], line[:, -MEMORY:].flatten(1)], 1).float()
        return (frames.float().clamp(0, 1) * 255 + 0.5).to(torch.uint8), state_next

    def _decode(self, latents: Tensor, real: Tensor) -> Tensor:
        """Latents (B, 8 + W, C, h, w) and whether each is in the scene (B, 8 + W) → (B, 4 W, 3, H, W)."""
        layers = self.decoder
        x = latents.to(next(self.parameters()).dtype)
        real = real.to(x.dtype)
        x = F.relu(_each(layers["1"], torch.tanh(x / 3) * 3))
        for first in (3, 9, 15):
            for i in range(3):
                x, real = layers[str(first + i)](x, real)
            x = _each(nn.Upsample(scale_factor=2), x)
            x, real = layers[str(first + 4)](x, real)
            if first == 9:
                x, real = x[:, 1:], real[:, 1:]  # three blocks at twice the rate: one and a half latents
            x = _each(layers[str(first + 5)], x)
        return _each(layers["22"], F.relu(x))


def _each(layer: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    return out


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of the file. A .pth is read as plain tensors, so no code in it runs. Raises one of
    UNREADABLE."""
    if path.suffix == ".safetensors":
        return load_file(path)
    weights = torch.load(path, map_location="cpu", weights_only=True)
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in weights.items()):
        raise ValueError("it contains objects other than tensors")
    return dict(weights)
