from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from engine.training.muon import Muon, orthogonal


def muon_of(layer: nn.Linear, lr: float) -> Muon:
    groups: list[dict[str, Any]] = [{"params": [layer.weight], "hidden": True}, {"params": [layer.bias]}]
    return Muon(groups, lr=lr)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 4, 16), (2, 16, 4)])
def test_steps_have_singular_values_near_one_in_the_gradients_directions(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    steps = orthogonal(matrices)
    values = torch.linalg.svdvals(steps)
    assert float(values.min()) > 0.3
    assert float(values.max()) < 1.3
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    share = (u.mT @ steps @ v.mT).diagonal(dim1=1, dim2=2)  # of the polar factor u v
    assert bool((share > 0.3).all())


def test_matrices_get_muons_steps_and_the_rest_adamws() -> None:
    torch.manual_seed(0)
    layer, other = nn.Linear(6, 6), nn.Linear(6, 6)
    other.load_state_dict(layer.state_dict())
    muon = muon_of(layer, 0.01)
    adamw = torch.optim.AdamW(other.parameters(), lr=0.01)
    for model, optimizer in ((layer, muon), (other, adamw)):
        model(torch.ones(2, 6)).square().sum().backward()
        optimizer.step()
    assert torch.equal(layer.bias, other.bias)
    assert not torch.equal(layer.weight, other.weight)


def test_a_run_goes_on_from_its_state() -> None:
    def trained(steps: int, again: int) -> nn.Linear:
        torch.manual_seed(0)
        layer = nn.Linear(4, 4)
        optimizer = muon_of(layer, 0.01)
        for k in range(steps):
            if k == again:
                saved = optimizer.state_dict()
                optimizer = muon_of(layer, 1.0)
                optimizer.load_state_dict(saved)
            layer(torch.full((2, 4), k + 1.0)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return layer

    assert torch.equal(trained(6, -1).weight, trained(6, 3).weight)
