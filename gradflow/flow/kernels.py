"""Runs of torch's recurrent kernels inside of a forward pass that is not torch's own.

A subclass may pack, transpose, drop or add around ``super().forward``, run it several times, and give back whatever it
likes; a hook may replace that once more. What the kernel itself took and gave is seen by a mode that every call of
torch's functions goes through, entered before the layer's forward and left after it. The kernel stays as it is.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode

from gradflow.flow.calls import LayerCall
from gradflow.flow.dropout import active_dropout

_MODES: dict[Any, str] = {torch.rnn_tanh: "RNN_TANH", torch.rnn_relu: "RNN_RELU", torch.lstm: "LSTM", torch.gru: "GRU"}
_CALL = nn.Module._call_impl.__code__
_TORCHS_OWN = (nn.RNN.forward, nn.LSTM.forward, nn.GRU.forward)


def has_own_forward(layer: nn.Module) -> TypeGuard[nn.RNNBase]:
    """Whether a layer of torch runs another forward than torch's: that of a subclass, or one put in its place."""
    return isinstance(layer, nn.RNNBase) and getattr(layer.forward, "__func__", None) not in _TORCHS_OWN


class Inside:
    """Sees each run of its kernel in the forward passes of one layer of torch.

    Of a packed sequence the examples are in the order in which the kernel takes them, the longest first.

    Args:
        layer: torch.nn.RNN, LSTM or GRU, or a subclass.
        called: its name, for errors.
        saw: is told of each run, just after it, with gradients enabled or not as they are around the layer's forward.

    Raises:
        NotImplementedError: in the forward pass, by name: if the layer runs its kernel otherwise than the layer says,
            or never, and for dropout between layers that are not on a CPU.
    """

    def __init__(self, layer: nn.RNNBase, called: str, saw: Callable[[LayerCall], None]):
        self._layer, self._called, self._saw = layer, called, saw
        self._mode = _Mode(self._run)
        self._depth = 0  # a forward may call the layer itself
        self._ran = False
        self._with_gradients = True

    def enter(self, layer: nn.Module, args: tuple) -> None:
        """The hook before the layer's forward."""
        if self._depth > 0 and _calls_that_run(self._layer) == 1:
            self.remove()  # left over
        if self._depth == 0:
            self._ran, self._with_gradients = False, torch.is_grad_enabled()
            self._mode.__enter__()
        self._depth += 1

    def leave(self, layer: nn.Module, args: tuple, output: Any) -> None:
        """The hook after it, which is to be called always; `output` is None if the forward has raised."""
        self._depth -= 1
        if self._depth > 0:
            return
        self._mode.__exit__(None, None, None)
        if output is not None and not self._ran and torch.is_grad_enabled():
            raise NotImplementedError(
                f"{self._called}: expected the forward of this {type(self._layer).__name__} to run torch's kernel "
                f"(super().forward), it never does, so that its steps cannot be seen; write its step as a "
                f"gradflow.Cell in gradflow.Recurrent"
            )

    def remove(self) -> None:
        """Leave a forward pass that was broken off by what hooks do not see, such as the user's interrupt."""
        above: list[Any] = []  # modes that were entered since
        while self._depth > 0 and self._mode in _get_current_function_mode_stack():
            above.append(_pop_mode())
        for mode in reversed([mode for mode in above if mode is not self._mode]):
            _push_mode(mode)
        self._depth = 0

    def __enter__(self) -> Self:
        self._handles = [
            self._layer.register_forward_pre_hook(self.enter),
            self._layer.register_forward_hook(self.leave, always_call=True),
        ]
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self.remove()

    def _run(self, mode: str, kernel: Callable, args: tuple, kwargs: dict) -> tuple[Tensor, ...]:
        weights = args[3 if self._takes_packed(args) else 2] if len(args) > 3 else ()
        if any(weights is inner._flat_weights for inner in self._others()):
            return kernel(*args, **kwargs)
        is_own = any(weight is own for weight in weights for own in self._layer._flat_weights)
        if not is_own and not _calls_that_run(self._layer):  # of another layer, since this one was broken off
            return kernel(*args, **kwargs)
        self._ran = True
        if torch.is_grad_enabled() != self._with_gradients:
            return kernel(*args, **kwargs)
        self._check(mode, args, kwargs)
        dropout = active_dropout(self._layer, self._called)
        result = kernel(*args)
        x, output, hx = args[0], result[0], args[1]
        if self._takes_packed(args):
            x, output, hx = PackedSequence(x, args[1]), PackedSequence(output, args[1]), args[2]
        named = dict(zip(self._layer._flat_weights_names, weights, strict=True))
        self._saw(LayerCall(self._layer, x, hx, output, tuple(result[1:]), dropout=dropout, weights=named))
        return result

    def _others(self) -> list[nn.RNNBase]:
        return [m for m in self._layer.modules() if isinstance(m, nn.RNNBase) and m is not self._layer]

    @staticmethod
    def _takes_packed(args: tuple) -> bool:
        """Data, sizes of the batch, initial states, weights ...; otherwise input, initial states, weights ..."""
        return len(args) > 3 and not isinstance(args[3], bool)

    def _check(self, mode: str, args: tuple, kwargs: dict) -> None:
        layer, packed = self._layer, self._takes_packed(args)
        says: Sequence[Any] = (layer.bias, layer.num_layers, layer.dropout, layer.training, layer.bidirectional)
        says = tuple(says) if packed else (*says, layer.batch_first)
        weights, *does = args[3 if packed else 2 :] or ((),)
        if kwargs or mode != layer.mode or tuple(does) != says or len(weights) != len(layer._flat_weights_names):
            raise NotImplementedError(
                f"{self._called}: expected the forward of this {type(layer).__name__} to run its kernel as the layer "
                f"says (bias, num_layers, dropout, training, bidirectional, batch_first: {says}), it runs {mode} with "
                f"{tuple(does)}; call super().forward"
            )


def _calls_that_run(layer: nn.Module) -> int:
    """How many calls of a layer have begun and not ended; those that are compiled are not counted."""
    count, frame = 0, sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        count += frame.f_code is _CALL and frame.f_locals.get("self") is layer
    return count


class _Mode(TorchFunctionMode):
    """Hands each run of a recurrent kernel to a function; all else runs as it is."""

    def __init__(self, run: Callable[[str, Callable, tuple, dict], Any]):
        super().__init__()
        self._run = run

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        mode = _MODES.get(func)
        return func(*args, **(kwargs or {})) if mode is None else self._run(mode, func, args, kwargs or {})
