"""A progress bar over epochs."""

from skorch.callbacks import Callback
from tqdm.auto import tqdm


class EpochProgressBar(Callback):
    """Show epochs as a bar, with the newest loss, penalty and held-out gap."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Open the bar."""
        self.bar_ = tqdm(total=net.max_epochs, unit="epoch")

    def on_epoch_end(self, net, **kwargs):
        """Move the bar on."""
        row = net.history[-1]
        shown = {
            label: f"{row[name]:.3f}" for label, name in _shown(row) if name in row
        }
        self.bar_.set_postfix(shown, refresh=False)
        self.bar_.update()

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Close the bar, if training came so far as to open it."""
        if hasattr(self, "bar_"):
            self.bar_.close()

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != "bar_"}


def _shown(row):
    yield "loss", "train_loss" if "train_loss" in row else "objective"
    yield "penalty", "train_penalty"
    yield "held-out loss", "valid_loss"
    for name in row:
        # The first is the one that belongs to the penalty.
        if name.startswith("valid_") and name.endswith(("difference", "ratio")):
            yield "held-out gap", name
            return
