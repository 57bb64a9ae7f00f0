"""Default networks: an MLP for tables, residual convolutional nets for images."""

import torch
from torch import nn

__all__ = ["MLP", "ResNet18", "SmallResNet"]


class MLP(nn.Module):
    """A multi-layer perceptron with ReLU.

    Parameters
    ----------
    n_features : int
        Columns of X.
    n_classes : int
        Number of outputs, logits.
    hidden : tuple of int, default=(64, 64)
        Width of each hidden layer; ``()`` is logistic regression.
    dropout : float, default=0
        Share of hidden units that a training step leaves out.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.modules import MLP
    >>> MLP(n_features=5, n_classes=2)(torch.zeros(3, 5)).shape
    torch.Size([3, 2])
    """

    def __init__(self, n_features, n_classes, hidden=(64, 64), dropout=0.0):
        super().__init__()
        layers, width = [], n_features
        for units in hidden:
            layers += [nn.Linear(width, units), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
            width = units
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(width, n_classes)

    def forward(self, X):
        """Return logits of shape (n_samples, n_classes)."""
        return self.head(self.features(X))


class SmallResNet(nn.Module):
    """A residual convolutional net for small images.

    A first convolution, then stages of one residual block each that halve the size
    and double the width, then an average over positions and a linear head.

    Parameters
    ----------
    in_channels : int
        Channels of the images.
    n_classes : int
        Number of outputs, logits.
    width : int, default=16
        Channels of the first stage.
    n_stages : int, default=4
        Number of stages; images of 8 pixels and more pass all four.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.modules import SmallResNet
    >>> SmallResNet(in_channels=3, n_classes=2)(torch.zeros(4, 3, 16, 16)).shape
    torch.Size([4, 2])
    """

    def __init__(self, in_channels, n_classes, width=16, n_stages=4):
        super().__init__()
        self.stem = _conv_norm(in_channels, width, stride=1)
        stages, inside = [], width
        for stage in range(n_stages):
            outside = width * 2**stage
            stages.append(_ResidualBlock(inside, outside, stride=2 if stage else 1))
            inside = outside
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inside, n_classes)

    def forward(self, X):
        """Return logits of shape (n_samples, n_classes)."""
        features = self.stages(torch.relu(self.stem(X)))
        return self.head(features.mean(dim=(2, 3)))


class ResNet18(nn.Module):
    """The 18-layer residual network, with a stem for small or for large images.

    As in [1]_, and without pretrained weights.

    Parameters
    ----------
    in_channels : int
        Channels of the images.
    n_classes : int
        Number of outputs, logits.
    width : int, default=64
        Channels of the first stage.
    small_images : bool, default=True
        A 3 x 3 stem that keeps the size, for images of 32 to about 96 pixels; else
        the original 7 x 7 stem that reduces it to a quarter.

    References
    ----------
    .. [1] He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition. CVPR 2016.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.modules import ResNet18
    >>> net = ResNet18(in_channels=3, n_classes=2, width=8)
    >>> net(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 2])
    """

    def __init__(self, in_channels, n_classes, width=64, small_images=True):
        super().__init__()
        if small_images:
            self.stem = nn.Sequential(
                _conv_norm(in_channels, width, stride=1), nn.ReLU()
            )
        else:
            self.stem = nn.Sequential(
                nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.MaxPool2d(3, stride=2, padding=1),
            )
        blocks, inside = [], width
        for stage in range(4):
            outside = width * 2**stage
            blocks.append(_ResidualBlock(inside, outside, stride=2 if stage else 1))
            blocks.append(_ResidualBlock(outside, outside, stride=1))
            inside = outside
        self.stages = nn.Sequential(*blocks)
        self.head = nn.Linear(inside, n_classes)

    def forward(self, X):
        """Return logits of shape (n_samples, n_classes)."""
        return self.head(self.stages(self.stem(X)).mean(dim=(2, 3)))


def uncompiled(module):
    """Return the network that `torch.compile` was given, else the network itself."""
    return getattr(module, "_orig_mod", module)


class _ResidualBlock(nn.Module):
    """Two convolutions and a path around them."""

    def __init__(self, inside, outside, stride):
        super().__init__()
        self.first = _conv_norm(inside, outside, stride)
        self.second = _conv_norm(outside, outside, 1)
        if stride == 1 and inside == outside:
            self.around = nn.Identity()
        else:
            self.around = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride=stride, bias=False),
                nn.BatchNorm2d(outside),
            )

    def forward(self, X):
        inner = self.second(torch.relu(self.first(X)))
        return torch.relu(inner + self.around(X))


def _conv_norm(inside, outside, stride):
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outside),
    )
