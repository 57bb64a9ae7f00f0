"""Random changes to training images, a batch at a time on its device."""

import torch

__all__ = ["AUGMENTATIONS", "flip", "flip_and_shift", "shift"]

#: Largest shift of `shift`, as a share of height and width.
SHIFT = 0.1


def flip(images):
    """Mirror each image left to right with probability one half.

    Parameters
    ----------
    images : Tensor of shape (n_samples, channels, height, width)
        Of any type, on any device.

    Returns
    -------
    images : Tensor of the same shape
        Of the same type, on the same device. Draws come from torch's own generator.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.augment import flip
    >>> images = torch.tensor([[[[1, 2, 3]]]])
    >>> flip(images).flatten().tolist() in ([1, 2, 3], [3, 2, 1])
    True
    """
    mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(mirrored, images.flip(3), images)


def shift(images):
    """Move each image by up to a tenth of its height and width; edges are repeated.

    Parameters
    ----------
    images : Tensor of shape (n_samples, channels, height, width)
        Of any type, on any device.

    Returns
    -------
    images : Tensor of the same shape
        Of the same type, on the same device. Draws come from torch's own generator.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.augment import shift
    >>> images = torch.tensor([[[[1, 2, 3]]]])
    >>> shift(images).flatten().tolist() in ([1, 1, 2], [1, 2, 3], [2, 3, 3])
    True
    """
    n_images, _, height, width = images.shape
    device = images.device
    rows = _moved(n_images, height, device)
    columns = _moved(n_images, width, device)
    which = torch.arange(n_images, device=device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=device)[:, None, None]
    return images[which, channel, rows[:, None, :, None], columns[:, None, None, :]]


def flip_and_shift(images):
    """Apply `flip`, then `shift`.

    Parameters
    ----------
    images : Tensor of shape (n_samples, channels, height, width)
        Of any type, on any device.

    Returns
    -------
    images : Tensor of the same shape
        Of the same type, on the same device. Draws come from torch's own generator.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.augment import flip_and_shift
    >>> flip_and_shift(torch.zeros(8, 3, 16, 16, dtype=torch.uint8)).shape
    torch.Size([8, 3, 16, 16])
    """
    return shift(flip(images))


#: Names that estimators accept.
AUGMENTATIONS = {"flip": flip, "shift": shift, "flip+shift": flip_and_shift}


def _moved(n_images, length, device):
    """Return positions to read from: ``(n_images, length)``, clamped to the image."""
    most = max(1, round(SHIFT * length))
    by = torch.randint(-most, most + 1, (n_images, 1), device=device)
    return (torch.arange(length, device=device) + by).clamp_(0, length - 1)
