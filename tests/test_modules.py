import pytest
import torch

from fairskorch.modules import MLP, ResNet18, SmallResNet


@pytest.mark.parametrize("size", [8, 11, 28, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_small_images_of_any_size_pass(size, channels, device):
    images = torch.rand(2, channels, size, size + 3, device=device)
    for module in (
        SmallResNet(channels, 5, width=4),
        ResNet18(channels, 5, width=4),
        ResNet18(channels, 5, width=4, small_images=False),
    ):
        assert module.to(device)(images).shape == (2, 5)


def test_resnet18_has_the_published_number_of_weights():
    # 11,689,512 with 1,000 classes, and the three 1 x 1 shortcuts of the original.
    net = ResNet18(3, 1000, small_images=False)
    assert sum(p.numel() for p in net.parameters()) == 11_689_512


def test_the_mlp_without_hidden_layers_is_logistic_regression():
    names = [name for name, _ in MLP(4, 3, hidden=()).named_parameters()]
    assert names == ["head.weight", "head.bias"]


def test_dropout_is_on_in_training_only():
    torch.manual_seed(0)
    net = MLP(4, 2, dropout=0.5)
    X = torch.rand(8, 4)
    assert not torch.equal(net.train()(X), net(X))
    assert torch.equal(net.eval()(X), net(X))
