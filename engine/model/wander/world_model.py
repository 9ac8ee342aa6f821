"""The built-in model and its roles: one module per function of the step contract.

It consists of the DiT with its memory, the autoencoder, the text encoder, and frozen word embeddings from a
public checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from engine.model.conditions import Conditions, denoise_inputs
from engine.model.config import CameraConfig, ModelConfig, build
from engine.model.pixels import to_bytes, to_unit
from engine.model.signature import ModelSpec, signature
from engine.model.text.encoder import TextConfig, TextEncoder, filled
from engine.model.text.word_table import Words
from engine.model.wander.autoencoder import Autoencoder, AutoencoderConfig
from engine.model.wander.hints import hints, planned, present, scenery, way
from engine.model.wander.places import UNSETTLED, Places, keep
from engine.model.wander.transformer import WanderDiT


@dataclass(frozen=True)
class WorldModelConfig:
    dit: ModelConfig
    autoencoder: AutoencoderConfig
    text: TextConfig

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> WorldModelConfig:
        return build(cls, data)


class WorldModel(nn.Module):
    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        self.config = config
        self.dit = WanderDiT(config.dit)
        self.autoencoder = Autoencoder(config.autoencoder)
        self.text = TextEncoder(config.text)
        self.words = Words(config.text)

    def trained(self) -> dict[str, Tensor]:
        """All weights but the frozen word embeddings."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith("words.")}

    def load_trained(self, state: Mapping[str, Tensor]) -> None:
        """Raises RuntimeError if the weights belong to another model."""
        self.load_state_dict({**state, **{f"words.{k}": v for k, v in self.words.state_dict().items()}})

    def spec(
        self,
        *,
        name: str,
        fps: int,
        steps: int,
        first_steps: int,
        context_noise: float = 0.0,
        change_noise: float = 0.0,
    ) -> ModelSpec:
        c, t = self.config.dit, self.config.text
        return ModelSpec(
            name=name,
            height=8 * c.latent_height,
            width=8 * c.latent_width,
            fps=fps,
            latent_channels=c.channels,
            latent_height=c.latent_height,
            latent_width=c.latent_width,
            frames_per_latent=4,
            segment=c.segment,
            history=c.packing.history,
            text_length=t.length,
            text_tokens=len(c.slots),
            image_tokens=c.memory.tokens - c.memory.text_tokens,
            model_dim=c.dim,
            pooled_dim=c.pooled_dim,
            decoder_state=(c.channels, c.latent_height, c.latent_width),
            actions=c.actions,
            steps=steps,
            first_steps=first_steps,
            context_noise=context_noise,
            change_noise=change_noise,
            place_columns=sum(c.camera.rings) if c.camera else 0,
            attributes=t.attributes,
            **_landmarks(c.camera),
        )

    def roles(self, spec: ModelSpec) -> dict[str, nn.Module]:
        """A module per role, whose forward takes the role's inputs in the signature's order."""
        roles: dict[str, nn.Module] = {
            "encode_text": EncodeText(self),
            "encode_image": EncodeImage(self),
            "embed_image": self.dit.image_tokens,
            "initial_memory": InitialMemory(self.dit),
            "memorize": self.dit.memorize,
            "squeeze": self.dit.squeeze,
            "denoise": Denoise(self.dit, signature(spec)["denoise"].input_names),
            "decode": Decode(self.autoencoder),
        }
        if self.config.dit.camera is not None:
            roles["keep"] = Keep(self.config.dit)
        return roles


def _landmarks(camera: CameraConfig | None) -> dict[str, Any]:
    """The fields of a spec that describe landmarks."""
    if camera is None:
        return {}
    return {f.name: getattr(camera, f.name) for f in fields(camera) if f.name.startswith("landmark")}


class EncodeText(nn.Module):
    """Token ids → text tokens, pooled vector, and the probability of each motion (class 0: unsaid).

    With attributes: also classes that fill in what is unsaid, and the classes that were said."""

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.words, self.text, self.slots = model.words, model.text, model.dit.text_slots

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Ids and mask (B, L) → probabilities of all attributes' classes, (B, K)."""
        return self.text.probabilities(self.text(*self.words(ids, mask)))

    def forward(self, ids: Tensor, mask: Tensor, fill: Tensor | None = None) -> tuple[Tensor, ...]:
        p, said = self.read(ids, mask), list[Tensor]()
        if fill is not None:
            p, classes = filled(p, fill, self.text.config.slots)
            said.append(classes)
        tokens, pooled = self.slots(p)
        return tokens, pooled, p[:, -self.text.config.slots[-1] :], *said


class EncodeImage(nn.Module):
    """A picture → the anchor's latent, its image tokens, and the decoder's state after showing the
    picture."""

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.autoencoder, self.image_tokens = model.autoencoder, model.dit.image_tokens

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        anchor = self.autoencoder.encode_image(to_unit(pixels))
        return anchor, self.image_tokens(anchor, torch.ones_like(anchor[:, 0, 0, 0, 0])), anchor[:, 0]


class InitialMemory(nn.Module):
    def __init__(self, dit: WanderDiT) -> None:
        super().__init__()
        self.dit = dit

    def forward(self, text: Tensor, image: Tensor) -> Tensor:
        return self.dit.initial_memory(text, image)


class Denoise(nn.Module):
    """Names the inputs, which come in the contract's order, and makes hints of those about the camera."""

    def __init__(self, dit: WanderDiT, names: Sequence[str]) -> None:
        super().__init__()
        self.dit, self.names = dit, tuple(names)

    def forward(self, *inputs: Tensor) -> Tensor:
        named = dict(zip(self.names, inputs, strict=True))
        x, t, d, given = denoise_inputs(named)
        if self.dit.config.camera is not None:
            given = self._told(named, given, x.dtype)
        velocity: Tensor = self.dit(x, t, d, given)
        return velocity

    def _told(self, named: Mapping[str, Tensor], given: Conditions, dtype: torch.dtype) -> Conditions:
        c = self.dit.config
        assert c.camera is not None
        assert given.actions is not None
        where = way(named["odometer"], named["acted"], given.actions, c)
        told = hints(
            given.history,
            given.context,
            where=where,
            places=Places(named["views"], named["marks"]),
            look=named["look"],
            landmarks=named["landmarks"],
            camera=c.camera,
        )
        return replace(given, hints=told.to(dtype), scenery=scenery(where.odometer, c.latent_width, c.camera))


class Keep(nn.Module):
    """Structure W's update: places of which there is no view yet get one from the segment."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.config = c

    def forward(
        self,
        segment: Tensor,
        actions: Tensor,
        odometer: Tensor,
        views: Tensor,
        marks: Tensor,
        look: Tensor,
        settled: Tensor,
        landmarks: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        camera = self.config.camera
        assert camera is not None
        where = way(odometer, actions, actions, self.config)
        standing = present(planned(landmarks, where.odometer, segment.shape[-1], camera))
        stamp = (look - UNSETTLED * (1 - settled))[:, None].expand_as(where.odometer)
        after = keep(
            Places(views, marks),
            segment,
            odometer=where.odometer,
            step=where.step,
            look=look,
            stamp=stamp,
            landmark=standing,
            camera=camera,
        )
        return where.odometer[:, -1], after.views, after.marks


class Decode(nn.Module):
    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latents: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        frames, state = self.autoencoder.decode(latents, state)
        return to_bytes(frames), state
