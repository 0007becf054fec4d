"""Compare a reduced precision with float32, on the volumes and the network that will use it.

Libraries have kernels that are wrong for some shapes on some processors: a bfloat16 convolution of
oneDNN returns zeros, or values from memory that nobody wrote, and no error.
"""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from fdseg.precision import overruns_memory

_REDUCED = (torch.bfloat16, torch.float16)
# Relative distances from float32 that need no explanation: the paper's U-Net has 0.14 and 0.35 in
# bfloat16, and 0.12 and 0.34 where each operator is computed in float32 and rounded once.
_NEAR = {"output": 0.25, "gradient": 0.5}
_FACTOR = 3.0  # times the distance that rounding explains
_SCALE = 1024.0  # of the loss, so that float16 keeps small gradients


def find_wrong_results(
    network: nn.Module,
    image: Tensor,
    reduced: Callable[[], AbstractContextManager],
    loss: Callable[[Tensor], Tensor] | None = None,
) -> str | None:
    """Return how a reduced precision is wrong; ``None`` where rounding explains its results.

    The output, and with a loss the gradient too, are compared with those of float32. Where they
    differ by much, both are computed once more with every operator in float32 and its result
    rounded: a network may be sensitive to rounding, and that is no error. The network itself, and
    the state of the random numbers, stay as they are.

    Args:
        network: maps ``[b, channels, X, Y, Z]`` to logits ``[b, structures, X, Y, Z]``.
        image: ``[b, channels, X, Y, Z]``, on the network's device.
        reduced: makes the context in which the reduced precision computes, such as autocast.
        loss: of logits in float32; without it, the network is compared as it predicts.
    """
    if image.device.type == "cpu" and overruns_memory(image.shape[2:]):
        return "bfloat16 writes beyond its memory where x is this short against y and z"
    exact = _results(copy.deepcopy(network).float(), image.float(), _float32(image), loss)
    found = _distances(_results(network, image, reduced(), loss), exact)
    if all(distance <= _NEAR[name] for name, distance in found.items()):
        return None
    with torch.autograd.set_multithreading_enabled(False), _RoundedOnce():
        rounding = _distances(_results(network, image, reduced(), loss), exact)
    if all(distance <= _FACTOR * rounding[name] for name, distance in found.items()):
        return None
    parts = [f"{name} {found[name]:.2g} (rounding explains {rounding[name]:.2g})" for name in found]
    return f"relative distance from float32: {', '.join(parts)}"


def _float32(image: Tensor) -> AbstractContextManager:
    return torch.autocast(image.device.type, enabled=False)


def _results(
    network: nn.Module,
    image: Tensor,
    context: AbstractContextManager,
    loss: Callable[[Tensor], Tensor] | None,
) -> dict[str, Tensor]:
    """The output of a copy of the network and its gradient, each as one vector."""
    network = copy.deepcopy(network).train(loss is not None)
    for module in network.modules():
        if isinstance(module, _DropoutNd):  # draws other numbers in another precision
            module.eval()
    devices = [image.device] if image.device.type == "cuda" else []
    with torch.inference_mode(False), torch.random.fork_rng(devices):
        torch.manual_seed(0)
        with torch.set_grad_enabled(loss is not None), context:
            logits = network(image.clone()).float()
            scaled = None if loss is None else loss(logits) * _SCALE
        if scaled is None:
            return {"output": logits.flatten()}
        weights = [p for p in network.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(scaled, weights, allow_unused=True)
    flat = [g.float().flatten() / _SCALE for g in gradients if g is not None]
    return {"output": logits.detach().flatten(), "gradient": torch.cat(flat)}


def _distances(found: dict[str, Tensor], exact: dict[str, Tensor]) -> dict[str, float]:
    """Relative distances in the Euclidean norm; infinite where a value is not finite."""
    distances = {}
    for name, right in exact.items():
        distance = float((found[name] - right).norm() / right.norm().clamp_min(1e-30))
        distances[name] = distance if distance == distance else float("inf")
    return distances


class _RoundedOnce(TorchDispatchMode):
    """Computes every operator on reduced precision in float32, and rounds its result."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        reduced = [
            value
            for value in tree_leaves((args, kwargs))
            if isinstance(value, Tensor) and value.dtype in _REDUCED
        ]
        if not reduced or function.is_view:
            return function(*args, **kwargs)
        wide = {id(tensor): tensor.float() for tensor in reduced}
        widened = tree_map_only(Tensor, lambda t: wide.get(id(t), t), (args, kwargs))
        if function._schema.is_mutable:
            function(*widened[0], **widened[1])
            for tensor in reduced:
                tensor.copy_(wide[id(tensor)])
            return args[0]
        own = function(*args, **kwargs)  # for the types of its results
        return tree_map(_typed_like, function(*widened[0], **widened[1]), own)


def _typed_like(value: Any, own: Any) -> Any:
    return value.to(own.dtype) if isinstance(value, Tensor) else value
