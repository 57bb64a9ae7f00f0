"""How a net runs an epoch, and what a step of it does."""

from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, LRScheduler
from skorch.dataset import unpack_data

from fairskorch._averaging import WeightAverage
from fairskorch._steps import choose_steps, log_refusal
from fairskorch._streams import TwoStreams
from fairskorch.batches import Batches
from fairskorch.exceptions import NonFiniteLossError

#: What a callback may ask to see between the parts of a step.
STEP_HOOKS = ("on_batch_begin", "on_batch_end", "on_grad_computed")


class EpochsOfNet:
    """The part of a net that runs its epochs and updates the weights."""

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Set what changes from epoch to epoch."""
        if self._average is not None:
            self._average.hide(self.module_)
        epoch = len(self.history) - self._first_epoch
        done = epoch / self.penalty_warmup if self.penalty_warmup else 1.0
        self._set_ramp(min(1.0, done), epoch)
        return super().on_epoch_begin(net, dataset_train, dataset_valid, **kwargs)

    def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Mark the epoch as one that was not interrupted."""
        self.history.record("finished", True)
        return super().on_epoch_end(net, dataset_train, dataset_valid, **kwargs)

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Count epochs of the ramp from here."""
        self._first_epoch = len(self.history)
        self._set_ramp(1.0)
        self._steps = None
        if self.ema_decay != getattr(self._average, "decay", None):
            self._average = WeightAverage(self.ema_decay) if self.ema_decay else None
        if self.capture is True and self._has_step_hooks():
            log_refusal(self, "a callback has a hook inside the step")
        return super().on_train_begin(net, X, y, **kwargs)

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Let go of the graphs and of the data in them."""
        self._steps = None
        self._show_average()
        return super().on_train_end(net, X, y, **kwargs)

    def load_weights(self, state):
        """Put other weights into the network; an average of them begins anew.

        Parameters
        ----------
        state : dict
            Of the network, as its ``state_dict`` returns it.
        """
        self.module_.load_state_dict(state)
        if self._average is not None:
            self._average.forget()

    def _show_average(self):
        """Have the average of the weights in the network, where there is one."""
        if self._average is not None:
            self._average.show(self.module_)

    def __getstate__(self):
        return {**super().__getstate__(), "_steps": None}

    def __setstate__(self, state):
        super().__setstate__(state)
        if hasattr(self, "optimizer_"):
            # A copied optimiser would warn at its first step outside a graph.
            self.optimizer_._warned_capturable_if_run_uncaptured = True

    def optimise(self, fields, target):
        """Do one step of the optimiser.

        Parameters
        ----------
        fields : dict
            ``"X"`` and what else `fairskorch.batches.Batches` gives.
        target : Tensor of shape (n_rows,), int64
            Class codes.

        Returns
        -------
        loss : scalar Tensor
            What was minimised, without a gradient; on the device.
        """

        def closure():
            self.optimizer_.zero_grad()
            return self.descend(self.infer(fields), fields, target)

        loss = self.optimizer_.step(closure).detach()
        self.after_update()
        return loss

    def descend(self, outputs, fields, target):
        """Give the weights the gradient of a batch, and return its loss."""
        loss = self.get_loss(outputs, target, X=fields, training=True)
        loss.backward()
        return loss

    def after_update(self):
        """Do what follows an update of the weights, on the device: part of a step."""
        if self._average is not None:
            self._average.update(self.module_)

    def after_step(self):
        """Do what belongs between two steps: no part of what is captured."""

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Run an epoch without waiting for the device until its end."""
        hooked = self._has_step_hooks()
        # Without such hooks nobody looks: the monitor reads the held-out rows itself.
        if iterator is None or not (training or hooked):
            return
        if hooked or fit_params or not isinstance(iterator, Batches | TwoStreams):
            total, n_rows = self._run_hooked(
                iterator, training, prefix, step_fn, **fit_params
            )
        else:
            self._set_training(True)
            self._steps = self._steps or choose_steps(self, iterator)
            total, n_rows = self._steps.epoch(), sum(iterator.sampler.sizes)
            # Without a record of any batch skorch's Checkpoint can name no file.
            self.history.new_batch()
        if training:
            self._show_average()
            self._record_objective(float(total) / max(n_rows, 1))

    def _run_hooked(self, iterator, training, prefix, step_fn, **fit_params):
        total, n_rows = 0.0, 0
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            if training:
                self.after_update()
                self.after_step()
            _, target = unpack_data(batch)
            loss = step["loss"].item()
            total += loss * len(target)
            n_rows += len(target)
            self.history.record_batch(prefix + "_loss", loss)
            self.history.record_batch(prefix + "_batch_size", len(target))
            self.notify("on_batch_end", batch=batch, training=training, **step)
        return total, n_rows

    def _record_objective(self, objective):
        epoch = len(self.history)
        if objective != objective or abs(objective) == float("inf"):
            raise NonFiniteLossError(
                f"The training loss is {objective} in epoch {epoch}. Try a smaller lr "
                "or penalty_weight, standardise X, or clip gradients with skorch's "
                "GradientNormClipping."
            )
        self.history.record("objective", objective)
        self.history.record("lr", self.optimizer_.param_groups[0]["lr"])
        if self.penalty_ is not None:
            self.history.record("penalty_weight", self._last_weight())

    def _has_step_hooks(self):
        callbacks = [
            type(callback)
            for _, callback in self.callbacks_
            # It has a hook for batches, and uses it only when told to.
            if not (
                isinstance(callback, LRScheduler) and callback.step_every == "epoch"
            )
        ]
        own = any(
            getattr(type(self), name) is not getattr(NeuralNetClassifier, name)
            for name in ("train_step", "train_step_single", *STEP_HOOKS)
        )
        return own or any(
            getattr(kind, hook) is not getattr(Callback, hook)
            for kind in callbacks
            for hook in STEP_HOOKS
        )
