"""Gradflow: what happens to gradients in recurrent networks, recorded exactly while they train.

Names are loaded when first used, so that reading logs and drawing figures never imports torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "record": "recorder",
    "log_spaced": "schedule",
    "trace": "replay",
    "state_gradients": "adjoint",
    "Jacobian": "jacobian",
    "jacobian_product": "horizons",
    "product_norms": "horizons",
    "lyapunov_exponents": "horizons",
    "lag_resolved_gradients": "horizons",
    "recurrent_spectrum": "spectrum",
    "Cell": "cells",
    "Coefficients": "cells",
    "Recurrent": "recurrent",
    "RNN": "layers",
    "LinearRNN": "layers",
    "GRU": "layers",
    "Clipping": "clipping",
    "clip_grad_norm_": "clipping",
    "clip_grad_value_": "clipping",
    "clip_grad_parameter_norm_": "clipping",
    "initialise_": "initialisation",
    "watch_backward": "backward",
    "add_omega_gradient_": "regularisation",
    "lyapunov_loss": "flossing",
    "floss_": "flossing",
    "StateClipping": "state_clipping",
    "clip_state_gradients_": "state_clipping",
    "open_run": "runlog",
    "open_sweep": "runlog",
    "figures": "figures",
    "testing": "testing",
    "theory": "theory",
    "analysis": "analysis",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gradflow' has no attribute {name!r}; it has {', '.join(sorted(_HOMES))}")
    module = import_module(f"gradflow.{_HOMES[name]}")
    return module if name == _HOMES[name] else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
