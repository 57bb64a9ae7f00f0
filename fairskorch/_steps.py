"""The steps of an epoch: one kernel after another, or replayed as a CUDA graph.

A graph is captured once and replayed for every batch. What changes from step to step
has a fixed place on the device: the batch's row numbers (or its rows), the learning
rates, the penalty's weight and the sum of losses. What is fixed in a graph is compared
once an epoch, and a change captures anew.
"""

import logging
import warnings
from collections import Counter

import torch
from torch.nn import Module

from fairskorch.modules import uncompiled
from fairskorch.rates import widest

logger = logging.getLogger(__name__)

#: Steps of a fit from which on it pays to capture them.
WORTHWHILE_STEPS = 200

#: Steps of a shape of batch that are run one kernel after another before it is
#: captured: memory, plans of libraries and the optimiser's state are made in them.
WARMUP_STEPS = 3

#: Where a module keeps the hooks that run inside a step.
HOOKS = (
    "_forward_pre_hooks",
    "_forward_hooks",
    "_backward_pre_hooks",
    "_backward_hooks",
)

#: Shapes of batches that are captured at most.
MAX_SHAPES = 8


def choose_steps(net, batches):
    """Return what runs the epochs of a fit.

    Parameters
    ----------
    net : GroupPenaltyNet
        An initialised net.
    batches : fairskorch.batches.Batches
        Its training batches.

    Returns
    -------
    steps : PlainSteps or CapturedSteps
    """
    if net.capture is False:
        return PlainSteps(net, batches)
    reason = _obstacle(net)
    if reason is not None:
        if net.capture is True:
            log_refusal(net, reason)
        return PlainSteps(net, batches)
    if net.capture == "auto" and len(batches) * net.max_epochs < WORTHWHILE_STEPS:
        return PlainSteps(net, batches)
    return CapturedSteps(net, batches)


class PlainSteps:
    """Run the steps of an epoch one kernel after another.

    Parameters
    ----------
    net : GroupPenaltyNet
        An initialised net.
    batches : fairskorch.batches.Batches
        Its training batches.
    """

    def __init__(self, net, batches):
        self.net = net
        self.batches = batches

    def epoch(self):
        """Run an epoch and return the sum over rows of the losses, on the device."""
        device = self.batches.device
        total = torch.zeros((), dtype=widest(device), device=device)
        for fields, target in self.batches:
            total.add_(self.net.optimise(fields, target), alpha=len(target))
            self.net.after_step()
        return total


class CapturedSteps:
    """Run the steps of an epoch as CUDA graphs, one for each shape of a batch.

    Parameters
    ----------
    net : GroupPenaltyNet
        An initialised net on a CUDA device.
    batches : fairskorch.batches.Batches
        Its training batches.
    """

    def __init__(self, net, batches):
        self.net = net
        self.batches = batches
        self.device = batches.device
        self.stream = torch.cuda.Stream(self.device)
        self.pool = torch.cuda.graph_pool_handle()
        self.total = torch.zeros((), dtype=torch.float64, device=self.device)
        self.rates = [
            torch.zeros((), device=self.device) for _ in net.optimizer_.param_groups
        ]
        self.fixed = None
        self.refused = False
        self._forget()

    def epoch(self):
        """Run an epoch and return the sum over rows of the losses, on the device."""
        fixed = _fixed(self.net)
        if fixed != self.fixed:
            self._forget()
            self.fixed = fixed
        groups = self.net.optimizer_.param_groups
        for rate, group in zip(self.rates, groups, strict=True):
            rate.fill_(group["lr"])
        self.total.zero_()
        main = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(main)
        try:
            # One stream for all: gradients of warm-up and graph meet nowhere else.
            with torch.cuda.stream(self.stream):
                for staged in self.batches.staged():
                    self._step(staged)
                    self.net.after_step()
        finally:
            main.wait_stream(self.stream)
        return self.total

    def _forget(self):
        self.graphs = {}
        self.seen = Counter()

    def _step(self, staged):
        shape = tuple(part.shape for part in staged)
        if shape not in self.graphs and self._due(shape):
            self._capture(shape, staged)
        if shape in self.graphs:
            graph, places = self.graphs[shape]
            for place, part in zip(places, staged, strict=True):
                place.copy_(part, non_blocking=True)
            graph.replay()
            return
        self.seen[shape] += 1
        if self.seen[shape] == WARMUP_STEPS and not self.refused:
            self._watched(staged)
        else:
            self._run(staged)

    def _due(self, shape):
        if self.refused or self.seen[shape] < WARMUP_STEPS:
            return False
        return len(self.graphs) < MAX_SHAPES

    def _run(self, staged):
        fields, target = self.batches.finish(*staged)
        loss = self.net.optimise(fields, target)
        self.total.add_(loss, alpha=len(target))

    def _watched(self, staged):
        """Run a step, and see whether something in it waits for the device."""
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                self._run(staged)
            finally:
                torch.cuda.set_sync_debug_mode(before)
        for warning in caught:
            if "synchronizing CUDA operation" in str(warning.message):
                self._refuse(
                    f"{warning.filename}:{warning.lineno} waits for the device, as "
                    "Python code that depends on values of tensors does"
                )
            elif "Synchronization debug mode" not in str(warning.message):
                warnings.warn_explicit(
                    warning.message,
                    warning.category,
                    warning.filename,
                    warning.lineno,
                )

    def _capture(self, shape, staged):
        optimizer = self.net.optimizer_
        groups = optimizer.param_groups
        places = [part.clone() for part in staged]
        graph = torch.cuda.CUDAGraph()
        generator = torch.cuda.default_generators[self.stream.device.index]
        # A capture that fails leaves the generator in the midst of it.
        kept = generator.clone_state()
        floats = [group["lr"] for group in groups]
        optimizer.zero_grad(set_to_none=True)
        try:
            for group, rate in zip(groups, self.rates, strict=True):
                group["lr"] = rate
            with torch.cuda.graph(
                graph,
                pool=self.pool,
                stream=self.stream,
                # Other threads read batches ahead meanwhile.
                capture_error_mode="thread_local",
            ):
                self._run(places)
        except RuntimeError as error:
            generator.graphsafe_set_state(kept)
            optimizer.zero_grad(set_to_none=True)
            self._refuse(str(error).partition("\n")[0])
        else:
            self.graphs[shape] = graph, places
        finally:
            for group, value in zip(groups, floats, strict=True):
                group["lr"] = value

    def _refuse(self, reason):
        if not self.refused:
            log_refusal(self.net, reason)
        self.refused = True


def _obstacle(net):
    """Return why the step of a net cannot be captured, or None."""
    if torch.device(net.device).type != "cuda":
        return f"the device is {net.device}"
    mode = net.get_params_for("compile").get("mode") if net.compile else None
    if mode not in (None, "default", "max-autotune-no-cudagraphs"):
        return f"compile__mode={mode!r} makes CUDA graphs of its own"
    optimizer = net.optimizer_
    # Others may count steps on the host, where a graph would count them once.
    sgd = type(optimizer) is torch.optim.SGD and optimizer.defaults.get("fused")
    if not (sgd or optimizer.defaults.get("capturable")):
        return f"{type(optimizer).__name__} has no capturable implementation"
    for module in net.module_.modules():
        if any(getattr(module, name) for name in HOOKS):
            return f"{type(module).__name__} has hooks, which a graph would leave out"
    return None


def _fixed(net):
    """Return all that a graph holds fixed: when it changes, the graph is wrong."""
    whole = (net.module_, net.criterion_, net.penalty_)
    modules = [module for module in whole if isinstance(module, Module)]
    parts = [part for module in modules for part in module.modules()]
    held = (d for part in parts for d in (part._parameters, part._buffers))
    tensors = [t for tensors in held for t in tensors.values() if t is not None]
    numbers = (net.penalty_memory_, net.penalty_multiplier_, net._ramped_weight)
    numbers = (*numbers, net._one)
    tensors += [tensor for tensor in numbers if tensor is not None]
    tensors += [] if net._average is None else net._average.tensors
    settings = [
        {k: v for k, v in group.items() if k not in ("params", "lr", "initial_lr")}
        for group in net.optimizer_.param_groups
    ]
    return (
        [(t.data_ptr(), t.requires_grad) for t in tensors],
        [(id(part), part.training) for part in parts],
        settings,
        net._penalises,
        net.flood,
        net.penalty_schedule,
    )


def log_refusal(net, reason):
    """Say that steps are not captured, and why."""
    logger.warning(
        "Training steps of %s are not captured as a CUDA graph: %s.",
        type(uncompiled(net.module_)).__name__,
        reason,
    )
