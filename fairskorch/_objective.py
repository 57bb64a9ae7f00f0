"""What a `GroupPenaltyNet` minimises: task loss, and the penalty on top."""

import torch

from fairskorch._streams import other_fields

#: Type of weights, losses and rates.
DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.float32,
}


class Objective:
    """The part of a net that builds the penalty and the loss of a batch."""

    def initialize_penalty(self):
        """Build the penalty from its class and its double-underscore parameters."""
        self.penalty_ = None
        self.penalty_memory_ = None
        # At full weight until an epoch sets the ramp, for who takes single steps.
        self._ramped_weight = torch.tensor(
            float(self.penalty_weight),
            dtype=DTYPES[self.precision],
            device=self.device,
        )
        if self.penalty is not None:
            penalty = self.initialized_instance(
                self.penalty, self.get_params_for("penalty")
            )
            self.penalty_ = penalty.to(self.device, DTYPES[self.precision])
            self.penalty_memory_ = self.penalty_.new_memory()
        return self

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
        return self.penalty_.combine(task, value, self._ramped_weight)

    @property
    def _penalises(self):
        # The ramp does not decide: it is a number on the device.
        return self.penalty_ is not None and self.penalty_weight != 0

    @property
    def _undoes_sampling(self):
        """Whether rates refer to the training rows whatever rows are drawn."""
        # Weights of rows in the task loss are no matter of rates.
        if self.penalty_ is None:
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

    def _set_ramp(self, ramp):
        self._ramp = ramp
        # In one place on the device, where a captured step finds it.
        self._ramped_weight.fill_(self.penalty_weight * ramp)
