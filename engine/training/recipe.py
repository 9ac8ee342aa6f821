"""Recipes: TOML files with the stages, budgets and objectives of a training run, checked before it starts.

A recipe is a file in `recipes/` or one of the user's. Unknown keys and impossible values are refused with the
name of the key. Tensors are unknown here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from engine.errors import InvalidInput
from engine.model.config import ModelConfig, build
from engine.model.presets import preset
from engine.model.wander.autoencoder import AutoencoderConfig
from engine.text_files import read_text

PACKAGED = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Budget:
    """Length of a training: a number of steps, or of minutes, which count all sittings. Only a number of
    steps can be reproduced exactly."""

    minutes: float = 0.0
    steps: int = 0

    def __post_init__(self) -> None:
        if self.minutes < 0 or self.steps < 0 or (self.minutes > 0) == (self.steps > 0):
            raise InvalidInput("budget: say either minutes or steps, above 0", field="minutes")

    def __add__(self, other: Budget) -> Budget:
        return Budget(self.minutes + other.minutes, self.steps + other.steps)


@dataclass(frozen=True)
class Stage:
    """A stage with one objective: autoencoder, decoder, text, probe."""

    minutes: float = 0.0
    steps: int = 0
    lr: float = 1e-3
    batch: int = 4
    ema: float = 0.999
    config: Mapping[str, Any] = field(default_factory=dict)  # of the network it trains, if that has one

    @property
    def budget(self) -> Budget:
        return Budget(self.minutes, self.steps)


@dataclass(frozen=True)
class Data:
    """Episodes to learn from. The pool is bounded, and the oldest episodes are dropped.

    Journeys lead out and back, so that places reappear after they have left the history."""

    length: int = 28  # latent frames of an episode
    changes: float = 3.0  # prompts in 28 latent frames
    start: int = 192  # episodes before the first step
    limit: int = 1200  # episodes kept
    renew_every: int = 80  # steps until 8 new episodes are made
    journey_length: int = 96
    journey_start: int = 24
    journey_limit: int = 160
    videos: str = ""  # a folder of videos with captions to learn from instead of the built-in world
    fps: int = 16  # at which the videos are shown


@dataclass(frozen=True)
class Phase:
    """A part of the DiT's training with one objective. The phases of a run share one optimiser."""

    name: str = "teacher"
    objective: Literal["teacher", "direct", "student"] = "teacher"
    minutes: float = 0.0
    steps: int = 0
    lr: float = 1.0  # share of the run's learning rate
    batch: int = 12  # segments of an update, over all its chains
    chain: tuple[int, ...] = (1,)  # consecutive clips of a video; several values are a curriculum
    prefix: int = 2  # segments before a chain that ψ has seen
    bptt: int = 4  # updates of ψ that gradients pass through
    journeys: float = 0.0  # share of updates on journeys, which need recall
    journey_prefix: int = 24  # segments that ψ has seen there; gradients pass through all of them
    fresh: float = 0.15  # share of chains that start a scene
    scenes: float = 0.0  # share of updates on scenes from nothing, which have no history
    context_noise: float = 0.5  # history noise up to this level, which is an input of the model
    hero_weight: float = 3.0  # weight of the picture's middle columns
    forced: float = 1.0  # direct, student: share of chains that continue from the model's own estimates
    blur_below: float = 0.25  # direct by Eq. 7: below this t the estimate is a blur, so use the truth
    rollout_steps: int = 5  # student: Euler steps of a rollout
    split: float = 0.0  # share of rows trained by interval splitting, for few-step sampling
    guidance: float = 0.0  # trained in: 0.5 is a scale of 2 (engine.training.dit.guidance)
    silent: float = 0.0  # share of chains without a prompt; guidance needs some
    train: Literal["all", "output"] = "all"  # output: the last norm and projection only, as in the paper

    def __post_init__(self) -> None:
        """Raises InvalidInput for impossible values."""
        for name in ("fresh", "scenes", "forced", "split", "journeys", "blur_below", "silent"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidInput(f"phase {self.name}: {name} must lie between 0 and 1", field=name)
        if not 0 <= self.guidance < 1:
            raise InvalidInput(
                f"phase {self.name}: guidance must lie below 1, where its scale is infinite", field="guidance"
            )
        for name in ("batch", "bptt", "rollout_steps"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"phase {self.name}: {name} must be at least 1", field=name)
        if not self.chain or min(self.chain) < 1:
            raise InvalidInput(f"phase {self.name}: chain wants numbers of clips from 1 on", field="chain")

    @property
    def budget(self) -> Budget:
        return Budget(self.minutes, self.steps)

    def clips(self, progress: float) -> int:
        """Length of the chains after `progress` (0 to 1) of the phase."""
        return self.chain[min(int(progress * len(self.chain)), len(self.chain) - 1)]


@dataclass(frozen=True)
class Dit:
    lr: float = 1e-3
    optimizer: Literal["adamw", "muon"] = "adamw"
    ema: float = 0.999
    warmup: int = 100  # steps
    hold: float = 0.5  # share of the run at full rate, followed by a cosine to 3 %
    init: str = ""  # weights to start from
    judge_every: int = 250  # steps between figures, with a contact sheet
    checkpoint_blocks: bool = False  # recompute activations instead of keeping them, for large models
    phases: tuple[Phase, ...] = ()

    def until(self, name: str = "") -> tuple[Phase, ...]:
        """The phases up to and including `name`, or all of them without a name."""
        if not name:
            return self.phases
        return self.phases[: [p.name for p in self.phases].index(name) + 1]


@dataclass(frozen=True)
class Recipe:
    model: Mapping[str, Any] = field(default_factory=lambda: {"preset": "wander"})
    seed: int = 0
    autoencoder: Stage | None = None
    decoder: Stage | None = None
    text: Stage | None = None
    probe: Stage | None = None
    data: Data = Data()
    dit: Dit = Dit()

    def config(self) -> ModelConfig:
        """The preset with the recipe's changes. Raises InvalidInput.

        For users' videos the camera is off, since its motion is unknown."""
        changes = dict(self.model)
        if self.data.videos:
            changes |= {"camera": False, "carry": False}
        return build(ModelConfig, merged(asdict(preset(changes.pop("preset", "wander")).config), changes))

    def stages(self) -> list[str]:
        """The stages to train, in a possible order."""
        single = [n for n in ("autoencoder", "text") if getattr(self, n)]
        return [*single, *(["dit"] if self.dit.phases else []), *(["probe"] if self.probe else [])]


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in changes.items():
        inner = out.get(key)
        out[key] = (
            merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
        )
    return out


def parse(data: Mapping[str, Any]) -> Recipe:
    """Raises InvalidInput for unknown keys, bad values, and phases whose budgets cannot be added."""
    data = dict(data)
    dit = dict(data.pop("dit", {}))
    phases = tuple(build(Phase, p, f"recipe.dit.phases[{i}]") for i, p in enumerate(dit.pop("phases", ())))
    recipe = build(Recipe, data, "recipe")
    recipe = replace(recipe, dit=replace(build(Dit, dit, "recipe.dit"), phases=phases))
    for part in (recipe.autoencoder, recipe.decoder, recipe.text, recipe.probe, *phases):
        _ = part and part.budget
    names = [p.name for p in phases]
    if len(set(names)) < len(names) or set(names) & {"autoencoder", "decoder", "text", "probe", "dit"}:
        raise InvalidInput(f"recipe.dit: phases need names of their own, not {names}", field="phases")
    if len({p.budget.steps > 0 for p in phases}) > 1:
        raise InvalidInput("recipe.dit: give all phases minutes, or all of them steps", field="phases")
    segment = recipe.config().segment
    for p in phases:
        wanted = {"length": segment * max(p.chain)}
        if p.journeys:
            wanted["journey_length"] = wanted["length"]
        for key, frames in wanted.items():
            if getattr(recipe.data, key) < frames:
                raise InvalidInput(
                    f"recipe.data: {key} must be at least {frames}, for the chains of phase {p.name}",
                    field=key,
                )
    for stage in (recipe.autoencoder, recipe.decoder):
        if stage is not None:
            build(AutoencoderConfig, stage.config, "recipe.autoencoder.config")
    return recipe


def load(name: str | Path) -> Recipe:
    """A packaged recipe by name, or a file. Raises InvalidInput, which lists the packaged ones."""
    path = Path(name)
    if path.suffix != ".toml":
        path = PACKAGED / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PACKAGED.glob("*.toml")))
        raise InvalidInput(f"no recipe {name!s}; packaged are {known}, or name a .toml file", field="recipe")
    try:
        return parse(tomllib.loads(read_text(path, "--recipe")))
    except OSError as e:
        raise InvalidInput(f"cannot read {path}: {e.strerror}", field="recipe") from None
    except tomllib.TOMLDecodeError as e:
        raise InvalidInput(f"{path} is not TOML: {e}", field="recipe") from None


def scaled(phases: tuple[Phase, ...], *, minutes: float = 0.0, steps: int = 0) -> tuple[Phase, ...]:
    """The same phases with another total budget. Each keeps its share."""
    total = sum(p.minutes + p.steps for p in phases)
    share = [(p.minutes + p.steps) / total for p in phases]
    if steps:
        return tuple(
            replace(p, minutes=0.0, steps=max(1, round(s * steps)))
            for p, s in zip(phases, share, strict=True)
        )
    return tuple(replace(p, minutes=s * minutes, steps=0) for p, s in zip(phases, share, strict=True))
