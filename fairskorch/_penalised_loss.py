"""What a `GroupPenaltyNet` minimises: task loss, and the penalty on top."""

import math

import torch

from fairskorch._cross_entropy import by_logits, cross_entropy, is_plain
from fairskorch._streams import other_fields
from fairskorch.schedules import SCHEDULES, Ascent, factor

#: Type of weights, losses and rates.
DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.float32,
}


class PenalisedLoss:
    """The part of a net that builds the penalty and the loss of a batch."""

    penalty_multiplier_ = None

    def initialize_penalty(self):
        """Build the penalty from its class and its double-underscore parameters."""
        self.penalty_ = None
        self.penalty_memory_ = None
        self.penalty_multiplier_ = None
        if self.penalty is not None:
            penalty = self.initialized_instance(
                self.penalty, self.get_params_for("penalty")
            )
            self.penalty_ = penalty.to(self.device, DTYPES[self.precision])
            self.penalty_memory_ = self.penalty_.new_memory()
        self._ramped_weight, self._one = self._number(1.0), self._number(1.0)
        # At full weight until an epoch sets the ramp, for who takes single steps.
        self._set_ramp(1.0)
        return self

    def _number(self, value):
        kind = DTYPES[self.precision]
        return torch.tensor(float(value), dtype=kind, device=self.device)

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Return task loss, and in training with the penalty on top."""
        loss = self.criterion_(y_pred, y_true)
        task = self._mean_loss(loss, X)
        if training and self.flood is not None:
            task = (task - self.flood).abs() + self.flood
        if not training or not self._penalises:
            return task
        others = other_fields(X)
        if others is not None:
            # A pass of its own, as batch norm mixes the rows of a pass.
            X, y_true = others, others["target"]
            y_pred = self.infer(X)
            loss = self.criterion_(y_pred, y_true)
        value = self.penalty_.penalise(
            y_pred,
            y_true,
            X["groups"],
            X["importance"] if self._undoes_sampling else None,
            loss if loss.ndim else None,
            self.penalty_memory_,
        )
        return self.penalty_.combine(task, value, self._moved_weight(value))

    #: The loss that `descend` knows: a net with another has that differentiated.
    known_loss = get_loss

    def descend(self, outputs, fields, target):
        """Give the weights the gradient of a batch, and return its loss."""
        if not self._knows_slopes(outputs, fields):
            return super().descend(outputs, fields, target)
        logits = outputs.detach()
        loss, logs, slopes = cross_entropy(
            logits, target, self._one, fields.get("weight")
        )
        slopes = by_logits(slopes, logs)
        if self._penalises:
            value, more = self.penalty_.derivative(
                logits,
                target,
                fields["groups"],
                fields["importance"] if self._undoes_sampling else None,
                self.penalty_memory_,
            )
            weight = self._moved_weight(value)
            slopes.addcmul_(more, weight)
            loss = self.penalty_.combine(loss, value, weight)
        torch.autograd.backward(outputs, slopes)
        return loss

    def _knows_slopes(self, outputs, fields):
        """Whether the derivative of the loss by the outputs is written out."""
        if type(self).get_loss is not type(self).known_loss or self.flood is not None:
            return False
        if outputs.ndim != 2 or not is_plain(self.criterion_, "weight" in fields):
            return False
        if not self._penalises:
            return True
        return self.penalty_.is_added and other_fields(fields) is None

    def _moved_weight(self, value):
        """Return the weight of a step's penalty, and let an ascent move it after."""
        weight = self._ramped_weight
        if self.penalty_multiplier_ is not None:
            weight = weight * self.penalty_multiplier_
            self.penalty_multiplier_.addcmul_(
                value.detach().to(weight.dtype),
                self._ramped_weight,
                value=self._schedule.rate,
            )
        return weight

    @property
    def _schedule(self):
        given = self.penalty_schedule
        return SCHEDULES[given] if isinstance(given, str) else given

    @property
    def _penalises(self):
        # The ramp does not decide: it is a number on the device.
        if self.penalty_ is None:
            return False
        return self.penalty_weight != 0 or self.penalty_multiplier_ is not None

    @property
    def _undoes_sampling(self):
        """Whether rates refer to the training rows whatever rows are drawn."""
        # Weights of rows in the task loss are no matter of rates.
        if self.penalty_ is None or self.penalty_.within_cells:
            return False
        return self.penalty_.undo_sampling or self.sampler == "stratified"

    def penalty_statistic(self, y_pred, y_true, X, loss, importance=None):
        """Sum the penalty's values over the cells of a batch."""
        loss = loss if loss.ndim else None
        return self.penalty_.statistic(y_pred, y_true, X["groups"], importance, loss)

    def _mean_loss(self, loss, X):
        weight = X.get("weight") if isinstance(X, dict) else None
        if weight is None:
            return loss.mean()
        if loss.ndim == 0:
            raise ValueError(
                f"Rows have weights, from sample_weight, class_weight or "
                f"sampler='stratified', but {type(self.criterion_).__name__} returns "
                "one number for a batch. Use a criterion that can return the loss of "
                "each row, with criterion__reduction='none'."
            )
        return (loss * weight).sum() / weight.sum()

    def _set_ramp(self, ramp, epoch=None):
        """Set the ramp, and the weight where no step moves it.

        Parameters
        ----------
        ramp : float
        epoch : int, optional
            Epochs of this call before the present one; outside of epochs a schedule
            of one's own is not asked.
        """
        self._ramp = ramp
        schedule, weight = self._schedule, self.penalty_weight
        ascends = isinstance(schedule, Ascent) and self.penalty_ is not None
        if not ascends:
            self.penalty_multiplier_ = None
            if callable(schedule) and epoch is not None:
                weight = weight * factor(schedule, epoch, self.max_epochs)
                largest = getattr(self.penalty_, "max_weight", math.inf)
                if weight > largest:
                    raise ValueError(
                        f"penalty_schedule makes a weight of {weight} in epoch "
                        f"{epoch + 1}, and that of {type(self.penalty_).__name__} is "
                        f"at most {largest}."
                    )
        elif self.penalty_multiplier_ is None:
            self.penalty_multiplier_ = self._number(weight)
        self._epoch_weight = 1.0 if ascends else weight
        # In one place on the device, where a captured step finds it.
        self._ramped_weight.fill_(self._epoch_weight * ramp)

    def _last_weight(self):
        """Return the weight that the last step had or left."""
        weight = self._epoch_weight * self._ramp
        if self.penalty_multiplier_ is not None:
            weight = weight * float(self.penalty_multiplier_)
        return weight
