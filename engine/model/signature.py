"""The step contract: names, shapes and dtypes of every model function. They are defined only here.

PyTorch, ONNX Runtime and TensorRT share this signature. An export's manifest repeats it, and a backend
refuses a mismatch. This module does not import torch, so that serving can use it.

Legend: B batch, W latent frames of a segment, C latent channels, h w latent size, L text ids, N text tokens,
E their width, P width of the pooled prompt, I image tokens, M = N + I memory tokens, D width of the model,
K history frames, A actions, P columns that structure W keeps, Q planned landmarks.
"""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal, get_type_hints

from engine.errors import ModelFilesError
from engine.model.spec_values import faults, fits

Dtype = Literal["float32", "int64", "uint8"]


@dataclass(frozen=True)
class ModelSpec:
    """All that serving needs to know about a model. It is part of the manifest."""

    name: str
    height: int
    width: int
    fps: int
    latent_channels: int
    latent_height: int
    latent_width: int
    frames_per_latent: int
    segment: int  # W
    history: tuple[int, int, int]  # frames at 4x, 2x and 1x, oldest first
    text_length: int  # L
    text_tokens: int  # N
    image_tokens: int  # I
    model_dim: int  # D
    decoder_state: tuple[int, ...]  # shape without batch
    actions: tuple[str, ...]
    steps: int  # denoising steps of a segment
    first_steps: int  # denoising steps of a scene's first segment
    memory_ring: int = 8  # outputs of memorize that are kept for recondition
    context_noise: float = 0.0  # history noise, which keeps long videos stable; an input of the model
    change_noise: float = 0.0  # the same right after a new prompt, if it is above context_noise
    text_dim: int = 0  # E; 0 means D
    pooled_dim: int = 0  # P; 0 means D
    masked: bool = False  # prompts are padded; masks mark the tokens of text and ψ that count
    needs_image: bool = False  # a scene needs a picture to start from, a prompt is not enough
    sampler: str = "euler"  # or "unipc", or "pyramid" (engine.model.helios.pyramid)
    place_columns: int = 0  # P; 0: the camera is unknown
    attributes: tuple[str, ...] = ()  # what a scene always has a value of: each a name and its values
    landmarks: int = 0  # Q
    landmark_kinds: tuple[str, ...] = ()
    landmark_colours: tuple[str, ...] = ()
    landmark_spacing_px: int = 0  # average distance between landmarks,
    landmark_jitter_px: int = 0  # and the largest deviation from it
    shift: int = 1  # the sampler's σ → s σ / (1 + (s − 1) σ); 1: equal steps of t

    segment_frames: int = 0  # pixel frames of a segment; 0: W × frames_per_latent
    stage_steps: tuple[int, ...] = ()  # a pyramid's calls in each stage, smallest picture first; sum: `steps`
    shift_by: str = "previous"  # a pyramid's timestep shift (engine.model.helios.config)
    memory: bool = True  # whether there is ψ; without it the history is all that a session remembers
    pooled: bool = True  # whether a prompt has a pooled vector besides its tokens
    start_noise: tuple[float, ...] = ()  # least and most noise on a start picture's latents; empty for none
    anti_drift: float = 0.0  # how strongly channels are held at the anchor's statistics; 0: not at all
    encodes_video: bool = False  # whether a segment's frames can be encoded together; else picture by picture

    @property
    def choices(self) -> dict[str, tuple[str, ...]]:
        """Attribute → its values."""
        return {name: tuple(values) for name, *values in map(str.split, self.attributes)}

    @property
    def memory_tokens(self) -> int:
        return self.text_tokens + self.image_tokens if self.memory else 0

    @property
    def text_width(self) -> int:
        return self.text_dim or self.model_dim

    @property
    def pooled_width(self) -> int:
        return (self.pooled_dim or self.model_dim) if self.pooled else 0

    @property
    def has_decoder_state(self) -> bool:
        """False if every segment is decoded by itself."""
        return 0 not in self.decoder_state

    @property
    def calls(self) -> dict[str, int]:
        """How often a segment calls each denoising role. A scene's first segment may need more calls."""
        return dict(zip(self.denoise_roles, self.stage_steps or (self.steps,), strict=True))

    def stage_size(self, stage: int) -> tuple[int, int]:
        """Height and width of the latents in a stage of a pyramid."""
        by = 2 ** (len(self.stage_steps) - 1 - stage)
        return self.latent_height // by, self.latent_width // by

    @property
    def denoise_roles(self) -> tuple[str, ...]:
        """The denoising roles: one, or one for each stage of a pyramid."""
        return tuple(f"denoise_{k}" for k in range(len(self.stage_steps))) or ("denoise",)

    @property
    def history_frames(self) -> int:
        return sum(self.history)

    @property
    def frames_per_segment(self) -> int:
        return self.segment_frames or self.segment * self.frames_per_latent

    @property
    def segment_s(self) -> float:
        return self.frames_per_segment / self.fps

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ModelSpec:
        """Raises ModelFilesError for a missing or unknown key, a value of the wrong kind or beyond its limit,
        and values that contradict each other."""
        names = {f.name for f in fields(cls)}
        unknown, missing = set(data) - names, names - set(data) - _OPTIONAL
        if unknown or missing:
            raise ModelFilesError(
                f"manifest: spec has unknown keys {sorted(unknown)!s:.200} and lacks {sorted(missing)}; "
                "export the model again with this version",
                field="spec",
            )
        kinds, told = get_type_hints(cls), {f.name: f.type for f in fields(cls)}
        for key, value in data.items():
            if not fits(key, kinds[key], value):
                raise _bad(f"{key} is {value!r:.80}, should be {told[key]}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        spec = cls(**values)
        for fault in faults(spec.to_json()):
            raise _bad(fault)
        return spec


def _bad(fault: str) -> ModelFilesError:
    return ModelFilesError(f"manifest: spec: {fault}; export the model again", field="spec")


_OPTIONAL = {f.name for f in fields(ModelSpec) if f.default is not MISSING}


@dataclass(frozen=True)
class Tensor:
    """One input or output. The shape leaves out the batch axis, which always comes first."""

    name: str
    shape: tuple[int, ...]
    dtype: Dtype = "float32"


@dataclass(frozen=True)
class Role:
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def input_names(self) -> list[str]:
        return [t.name for t in self.inputs]

    @property
    def output_names(self) -> list[str]:
        return [t.name for t in self.outputs]


def signature(s: ModelSpec) -> dict[str, Role]:
    """The inputs and outputs of every role of this model, by name."""
    frame = (s.latent_channels, s.latent_height, s.latent_width)
    segment = Tensor("segment", (s.segment, *frame))
    anchor = Tensor("anchor", (1, *frame))
    context = Tensor("context", ())  # 1 if anchor and history hold a scene, 0 at the start of one
    text = Tensor("text", (s.text_tokens, s.text_width))
    text_mask = (Tensor("text_mask", (s.text_tokens,)),) if s.masked else ()
    pooled = (Tensor("pooled", (s.pooled_width,)),) if s.pooled else ()
    image = Tensor("image", (s.image_tokens, s.model_dim))
    images = (image,) if s.image_tokens else ()
    psi = Tensor("psi", (s.memory_tokens, s.model_dim))
    psi_mask = (Tensor("psi_mask", (s.memory_tokens,)),) if s.masked else ()
    memory = Tensor("memory", psi.shape)
    state = (Tensor("state", s.decoder_state),) if s.has_decoder_state else ()
    state_next = (Tensor("state_next", s.decoder_state),) if s.has_decoder_state else ()
    nearest = (Tensor("nearest", (1, *frame)),) if s.stage_steps else ()  # the picture as a segment's end
    history = Tensor("history", (s.history_frames, *frame))
    motion = Tensor("motion", (len(s.actions) + 1,))  # unsaid, then actions
    actions = Tensor("actions", (s.segment,), "int64")
    views = Tensor("views", (s.place_columns, s.latent_channels, s.latent_height))
    marks = Tensor(
        "marks", (s.place_columns, 4)
    )  # is there a view, its column, its look, the camera's motion
    look = Tensor("look", ())  # number of prompts in this scene so far
    landmarks = Tensor("landmarks", (s.landmarks, 4))  # x in px of the world, kind (0: none), colour, size
    odometer = Tensor("odometer", (), "int64")  # camera steps to the right before the segment
    acted = Tensor("acted", (s.segment,), "int64")  # actions of the previous segment
    frames = Tensor("frames", (s.frames_per_segment, 3, s.height, s.width), "uint8")
    values = len(s.attributes)  # classes are counted from 1, 0 is unsaid
    fill = (Tensor("fill", (values,), "int64"),) if values else ()  # what to take for what is unsaid
    said = (Tensor("said", (values,), "int64"),) if values else ()
    roles = {
        "encode_text": Role(
            (Tensor("ids", (s.text_length,), "int64"), Tensor("mask", (s.text_length,)), *fill),
            (text, *text_mask, *pooled, motion, *said),
        ),
        "encode_image": Role(
            (Tensor("pixels", (3, s.height, s.width), "uint8"),), (anchor, *nearest, *images, *state)
        ),
        "embed_image": Role((anchor, context), (image,)),
        "initial_memory": Role((text, image, *text_mask), (psi, *psi_mask)),
        "memorize": Role((segment,), (memory,)),
        "squeeze": Role((psi, memory, *psi_mask), (Tensor("psi_next", psi.shape),)),
        "denoise": Role(
            (
                Tensor("x", segment.shape),
                Tensor("t", ()),  # 0 noise, 1 data
                Tensor("d", ()),  # jump length of few-step sampling
                psi,
                *psi_mask,
                text,
                *text_mask,
                *pooled,
                image,
                history,
                anchor,
                context,
                Tensor("sigma", ()),  # noise level of the history
                *((actions,) if len(s.actions) > 1 else ()),
                Tensor("index", ()),  # number of the segment within its scene
                *((odometer, acted, views, marks, look, landmarks) if s.place_columns else ()),
            ),
            (Tensor("velocity", segment.shape),),
        ),
        "decode": Role((Tensor("latents", segment.shape), *state), (frames, *state_next)),
    }
    if s.place_columns:
        settled = Tensor("settled", ())  # 1 once the last change of the prompt is complete
        roles["keep"] = Role(
            (segment, actions, odometer, views, marks, look, settled, landmarks),
            (
                Tensor("odometer_next", (), "int64"),
                Tensor("views_next", views.shape),
                Tensor("marks_next", marks.shape),
            ),
        )
    if s.stage_steps:
        del roles["denoise"]
        projected = Tensor("projected", (s.text_tokens, s.model_dim))  # as the blocks read it, once per text
        roles["project_text"] = Role((text,), (projected,))
        told = (Tensor("timestep", (), "int64"), *((psi,) if s.memory else ()), projected, history, anchor)
        for stage, role in enumerate(s.denoise_roles):
            shape = (s.segment, s.latent_channels, *s.stage_size(stage))
            roles[role] = Role((Tensor("x", shape), *told), (Tensor("velocity", shape),))
    if not s.memory:
        for role in ("initial_memory", "memorize", "squeeze"):
            del roles[role]
    if s.encodes_video:
        video = Tensor("video", (s.frames_per_segment, 3, s.height, s.width), "uint8")
        roles["encode_video"] = Role((video,), (segment,))
    if s.needs_image or not s.image_tokens:
        del roles["embed_image"]  # the features come with the picture, or are not used
    return roles
