"""Gradients through padding: layers and loops run on past the end of an example, and nothing tells them so."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from gradflow.cells.scanning import within
from gradflow.flow.calls import LayerCall

_PACK = "pack the sequences (torch.nn.utils.rnn.pack_padded_sequence), leave lengths out so that padding counts as well"


def check_padding(call: LayerCall, arrived: Mapping[str, Any]) -> None:
    """Raise if gradients of a padded tensor came through its padding, where no state counts.

    Args:
        call: a forward pass.
        arrived: "output", "h_n", "c_n" -> the gradient that autograd left there.

    Raises:
        ValueError: naming what was read and the first example that is concerned. Not for NaN and infinity.
    """
    if call.packed or call.example_lengths is None:
        return
    layer, sides = call.layer, 2 if call.layer.bidirectional else 1
    if layer.num_layers > 1 and sides > 1:
        raise ValueError(
            f"lengths: the reverse direction of a padded tensor starts in its padding, and the lower layers of this "
            f"{type(layer).__name__} get gradients through that; {_PACK}, or use one direction"
        )
    steps = len(call.time_major(call.output))
    padding = ~within(steps, call.example_lengths)
    for name, gradient in arrived.items():
        arrives = call.time_major(gradient) if name == "output" else call.state_major(gradient)[::sides]
        present = ((arrives != 0) & arrives.isfinite()).any(-1).cpu()  # [T, B], or [L, B] at the last position
        stray = (present & (padding if name == "output" else padding[-1])).any(0)
        if bool(stray.any()):
            example = int(stray.nonzero()[0])
            raise ValueError(
                f"lengths: a gradient arrives at {name} past the end of example {example}, whose length is "
                f"{int(call.example_lengths[example])} of {steps}; a padded tensor is run through to its end, and h_n "
                f"is the state after the padding; {_PACK}, or read output at lengths - 1"
            )


def check_steps(name: str, steps: Sequence[Sequence[Tensor]], lengths: Tensor) -> None:
    """The same of a module that a script steps through.

    Args:
        name: of the module.
        steps: gradients that arrived at each, those of B examples in order.
        lengths: [B].

    Raises:
        ValueError: naming the first example that is concerned. Not for NaN and infinity.
    """
    for time, gradients in enumerate(steps):
        past = lengths <= time
        for gradient in gradients if bool(past.any()) else ():
            present = (gradient != 0) & gradient.isfinite()
            stray = present.reshape(-1, len(lengths), gradient.shape[-1]).any(-1).any(0).cpu() & past
            if bool(stray.any()):
                example = int(stray.nonzero()[0])
                raise ValueError(
                    f"lengths: a gradient arrives at step {time} of {name!r} past the end of example {example}, whose "
                    f"length is {int(lengths[example])} of {len(steps)}; keep the state where an example has ended "
                    f"(torch.where), read it at lengths - 1, or leave lengths out so that padding counts as well"
                )
