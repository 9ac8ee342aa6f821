"""The law of the world: in steady motion a segment is the one before it, moved by whole cells per layer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.model.pixels import to_unit
from engine.model.wander.autoencoder import Autoencoder, AutoencoderConfig
from engine.world.attributes import ACTIONS, FRAMES_PER_LATENT, PLACES, VALUES, WEATHERS, WIDTH
from engine.world.drawing.landmarks import SPRITE, survey
from engine.world.drawing.noise import LOOP_PX
from engine.world.drawing.render import render
from engine.world.drawing.scene import FAR, MIDDLE, NEAR
from engine.world.episodes import CLOCK_PERIOD, from_script
from engine.world.motion import LATENT_PX

IDLE, LEFT, RIGHT, JUMP = range(len(ACTIONS))
SEGMENT, CELL_PX = 2, 8  # the built-in model's: latent frames, and pixels of a latent cell
HERO = slice(7, 13)  # latent columns that the hero, and what an encoder sees of it, can reach


def latents(action: int, attributes: list[list[int]]) -> Tensor:
    """Four segments of one action as an encoder that has learned nothing sees them: (B, 8, C, h, w)."""
    script = torch.tensor(attributes)[:, None].expand(-1, 4 * SEGMENT, -1)
    actions = torch.full(script.shape[:2], action)
    pictures = render(from_script(script, actions, torch.arange(len(attributes)) + 40))
    torch.manual_seed(0)
    encoder = Autoencoder(AutoencoderConfig(fine=8, coarse=16, fine_blocks=0, coarse_blocks=0))
    with torch.no_grad():
        z: Tensor = encoder.encode(to_unit(pictures))
    return z


def scenes() -> list[list[int]]:
    """Every place, with every weather and light among them."""
    return [[p, p % len(VALUES["time"]), (p // 2) % len(WEATHERS), p % 6, p] for p in range(len(PLACES))]


def test_layers_move_by_whole_cells_in_a_segment() -> None:
    assert [share * LATENT_PX * SEGMENT / CELL_PX for share in (NEAR, MIDDLE, FAR)] == [2, 1, 0]
    assert LATENT_PX == CELL_PX
    assert CLOCK_PERIOD == SEGMENT * FRAMES_PER_LATENT


@pytest.mark.parametrize("action", [IDLE, JUMP])
def test_where_the_camera_stands_every_segment_is_the_same(action: int) -> None:
    """The hero's hops last a segment, too; the first one differs, since the hero turns to its way."""
    z = latents(action, scenes()).unflatten(1, (4, SEGMENT))
    assert torch.allclose(z[:, 2], z[:, 1], atol=1e-4)
    assert torch.allclose(z[:, 3], z[:, 1], atol=1e-4)


def cells(action: int) -> Tensor:
    """The same in clear weather, the pixels of each latent cell side by side: a cell sees nothing of its
    neighbours, so that only cells with an edge between layers in them show two at once."""
    script = torch.tensor([[place, time, 0, hero, colour] for place, time, _, hero, colour in scenes()])
    script = script[:, None].expand(-1, 4 * SEGMENT, -1)
    actions = torch.full(script.shape[:2], action)
    x = to_unit(render(from_script(script, actions, torch.arange(len(script)) + 40)))
    x = x.unflatten(4, (-1, CELL_PX)).unflatten(3, (-1, CELL_PX)).unflatten(1, (-1, FRAMES_PER_LATENT))
    cell: Tensor = x.permute(0, 1, 2, 3, 5, 7, 4, 6)
    return cell.flatten(2, 5)


@pytest.mark.parametrize(("action", "way"), [(LEFT, -1), (RIGHT, 1)])
def test_while_walking_a_cell_is_one_of_the_segment_before_moved_as_its_layer_moves(
    action: int, way: int
) -> None:
    z = cells(action).unflatten(1, (4, SEGMENT))
    before, now = z[:, 1], z[:, 2]
    column = torch.arange(WIDTH // CELL_PX)
    inside = [c for c in range(3, 17) if not HERO.start <= c < HERO.stop]
    right = []
    for moved in (0, 1, 2):
        source = (column + way * moved).clamp(0, len(column) - 1)
        error = (now - before[..., source]).pow(2).mean(2).sqrt()
        right.append((error < 0.1 * z.std())[..., inside].float().mean((1, 3)))  # (place, row)
    anyhow = torch.stack(right).amax(0)
    assert anyhow.mean() > 0.8, anyhow.mean(1)
    assert right[0][:, :3].min() == 1, "the sky moves"
    assert right[2][:, 10:].min() > 0.9, "the ground does not move by two cells"
    assert anyhow.mean() > right[0].mean() + 0.15, "nothing moves"


def test_scenery_is_the_same_for_every_seed_and_repeats_after_a_loop() -> None:
    """Only landmarks belong to the seed, so the pictures are compared where none stands in either."""
    script = torch.tensor(scenes())[:, None].expand(-1, 1, -1)
    still = torch.zeros(script.shape[:2], dtype=torch.int64)

    def picture(seed: int, camera: int) -> tuple[Tensor, Tensor]:
        many = torch.full((len(script),), seed), torch.full((len(script),), camera)
        episodes = from_script(script, still, many[0], camera=many[1])
        away = survey(many[1].float(), many[0][:, None]).screen_x[:, :, None] - torch.arange(WIDTH)
        return render(episodes)[:, 0].float(), (away.abs() > SPRITE / 2).all(1)

    here, clear = picture(1, 400)
    for seed, camera in ((2, 400), (1, 400 + 2 * LOOP_PX)):  # the middle layer moves half as far
        there, free = picture(seed, camera)
        both = (clear & free)[:, None, None].expand_as(here)
        assert both.float().mean() > 0.1
        assert torch.equal(here[both], there[both])
