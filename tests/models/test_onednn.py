"""Linear layers by oneDNN: the same values, and gradients as before."""

import pytest
import torch
from torch import nn

from models import onednn
from models.onednn import use_onednn

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN"
)


@pytest.fixture(autouse=True)
def no_layer_is_too_small(monkeypatch):
    """Layers of tests are far below the size from which the kernel pays."""
    monkeypatch.setattr(onednn, "_WORTH", 1)


class Other(nn.Linear):
    """A layer with a forward pass of its own."""

    def forward(self, input):
        """Nothing but zeros."""
        return torch.zeros(())


def test_values_are_those_of_the_layer():
    """A weight taken the other way around, or a bias left out, would give every text another vector."""
    torch.manual_seed(0)
    for bias in (True, False):
        layer = nn.Linear(48, 96, bias=bias)
        inputs = torch.randn(3, 7, 48)
        expected = layer(inputs).detach()
        use_onednn(layer)
        with torch.inference_mode():
            torch.testing.assert_close(layer(inputs), expected)
            assert layer(inputs[:0]).shape == (0, 7, 96)
            torch.testing.assert_close(layer.double()(inputs.double()).float(), expected)


def test_a_layer_still_learns():
    """The kernel has no gradient: a retriever would be trained to no effect, or not at all."""
    layer = nn.Linear(4, 2)
    use_onednn(layer)
    layer(torch.ones(1, 4)).sum().backward()
    assert torch.equal(layer.weight.grad, torch.ones(2, 4))


@needs_onednn
def test_it_is_used_in_inference(monkeypatch):
    """Whoever measures the speed would measure the slower kernel."""
    layer, used = nn.Linear(4, 2), []
    use_onednn(layer)
    monkeypatch.setattr(onednn.F, "linear", lambda *_: used.append(1))
    with torch.no_grad():
        assert layer(torch.ones(1, 4)).shape == (1, 2)
    assert used == []


def test_layers_of_other_kinds_stay():
    """A quantised or adapted layer would compute by its frozen weights alone."""
    layer = nn.Sequential(Other(4, 2))
    use_onednn(layer)
    with torch.no_grad():
        assert layer(torch.ones(1, 4)).shape == ()


@needs_onednn
def test_small_layers_stay_with_the_default(monkeypatch):
    """A call of the kernel takes 10 microseconds: a small LM would write its outputs more slowly than before."""
    monkeypatch.setattr(onednn, "_WORTH", 4 * 4 * 2)
    layer, used = nn.Linear(4, 2), []
    use_onednn(layer)
    monkeypatch.setattr(onednn.F, "linear", lambda *_: used.append(1))
    with torch.no_grad():
        layer(torch.ones(3, 4))
        assert used == [1]
        layer(torch.ones(4, 4))
    assert used == [1]
