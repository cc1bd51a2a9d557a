"""Gradflow: what happens to gradients in recurrent networks, recorded exactly while they train.

Names are loaded when first used, so that reading logs and drawing figures never imports torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "record": "recording.start",
    "log_spaced": "recording.schedule",
    "mark": "flow.marking",
    "trace": "flow.replay",
    "state_gradients": "flow.adjoint",
    "Jacobian": "jacobian.operator",
    "jacobian_product": "flow.horizons",
    "product_norms": "flow.horizons",
    "lyapunov_exponents": "flow.horizons",
    "lag_resolved_gradients": "flow.horizons",
    "recurrent_spectrum": "flow.spectrum",
    "Cell": "cells.cell",
    "Coefficients": "cells.forms",
    "Recurrent": "cells.recurrent",
    "RNN": "cells.layers",
    "LinearRNN": "cells.layers",
    "LSTM": "cells.layers",
    "GRU": "cells.layers",
    "Clipping": "remedies.clipping",
    "clip_grad_norm_": "remedies.clipping",
    "clip_grad_value_": "remedies.clipping",
    "clip_grad_parameter_norm_": "remedies.clipping",
    "initialise_": "remedies.initialisation",
    "watch_backward": "flow.backward",
    "add_omega_gradient_": "remedies.regularisation",
    "lyapunov_loss": "remedies.flossing",
    "floss_": "remedies.flossing",
    "StateClipping": "remedies.state_clipping",
    "clip_state_gradients_": "remedies.state_clipping",
    "diagnose": "diagnosis",
    "open_run": "runlog",
    "open_sweep": "runlog",
    "figures": "figures",
    "write_report": "report",
    "testing": "flow.testing",
    "theory": "theory",
    "analysis": "analysis",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gradflow' has no attribute {name!r}; it has {', '.join(sorted(_HOMES))}")
    module = import_module(f"gradflow.{_HOMES[name]}")
    return module if name == _HOMES[name].rpartition(".")[2] else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
