"""A running mean of a network's weights."""

import torch


class WeightAverage:
    """Exponential moving average of the weights of a module, updated in each step.

    Starts at the weights after the first step. Statistics of batch norm are averaged
    in the same way; whole numbers, such as counts of batches, are left alone. Weights
    and average change places in place, where a captured step finds them.

    Parameters
    ----------
    decay : float in (0, 1)
        What the average keeps of itself in a step.
    """

    def __init__(self, decay):
        self.decay = decay
        self.forget()

    def forget(self):
        """Begin anew with the next step."""
        self.tensors = []
        self.shown = False

    @torch.no_grad()
    def update(self, module):
        """Take the weights after a step into the average."""
        weights = _floats(module)
        if not self.tensors:
            self.tensors = [weight.clone() for weight in weights]
        else:
            torch._foreach_lerp_(self.tensors, weights, 1 - self.decay)

    def show(self, module):
        """Give the module the average, where it does not have it."""
        if not self.shown and self.tensors:
            self._swap(module)

    def hide(self, module):
        """Give the module back the weights that are trained."""
        if self.shown:
            self._swap(module)

    @torch.no_grad()
    def _swap(self, module):
        weights = _floats(module)
        before = [weight.clone() for weight in weights]
        torch._foreach_copy_(weights, self.tensors)
        torch._foreach_copy_(self.tensors, before)
        self.shown = not self.shown


def _floats(module):
    tensors = (*module.parameters(), *module.buffers())
    return [tensor for tensor in tensors if tensor.is_floating_point()]
