"""What of a gradient reaches every step of torch's RNN as it comes, unrolled over time.

∂h_t/∂h_{t-1} = diag(tanh'(a_t)) W_hh. torch draws W_hh from U(±1/√H), whose variance 1/(3H) is that of gain 1/√3; the
biases and a one-hot input add 3/(3H) to the variance of a_t. Mean-field theory makes of these the rate at which
gradients vanish (:mod:`gradflow.theory.mean_field`), a little more than ln √3 per step.
"""

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradflow.flow.replay import trace
from gradflow.theory.mean_field import log_growth
from gradflow.theory.networks import generator, gradients_of_last, seeded

SIZE, STEPS, SYMBOLS = 64, 20, 50
NETWORKS, EXAMPLES = 8, 16


def unrolled_gradients(seed: int = 0) -> pd.DataFrame:
    """The gradient at every state of an untrained torch.nn.RNN (H = 64), of a loss that reads the last one.

    Args:
        seed: of all that is random.

    Returns:
        Rows with the columns quantity, time (from 0), lag, measured, deviation (standard, over eight networks),
        expected (mean-field theory):

        `gradient`: ln(‖dL/dh_t‖ / ‖dL/dh_T‖) at every step, median over the networks and their 16 examples each.
        `slope`: of that over lag, nats per step back, mean over the networks.
    """
    norms = np.stack([rnn_gradients(seed, number) for number in range(NETWORKS)])  # [network, lag, example]
    rate = rnn_rate()
    lags = np.arange(STEPS)
    slopes = np.array([np.polyfit(lags, network.mean(-1), 1)[0] for network in norms])
    gradient = {
        "quantity": "gradient",
        "time": STEPS - 1 - lags,
        "lag": lags,
        "measured": np.median(norms, axis=(0, 2)),
        "deviation": norms.mean(-1).std(0, ddof=1),
        "expected": lags * rate,
    }
    slope = {"quantity": ["slope"], "measured": slopes.mean(), "deviation": slopes.std(ddof=1), "expected": rate}
    return pd.concat([pd.DataFrame(gradient).iloc[::-1], pd.DataFrame(slope)], ignore_index=True)


def rnn_rate() -> float:
    """Mean-field theory of torch's RNN as it comes, ln of the factor per step."""
    return log_growth(3**-0.5, 1 / SIZE)


@torch.no_grad()
def rnn_gradients(seed: int, number: int) -> np.ndarray:
    """ln(‖dL/dh_t‖ / ‖dL/dh_T‖) in one network, [T, B] by lag."""
    layer = seeded(lambda: nn.RNN(SYMBOLS, SIZE, dtype=torch.float64), seed, number)
    source = generator(seed, number)
    seen = trace(layer, symbols(source))
    norms = gradients_of_last(seen, read_out(source)).log_norm["h"].flip(0)
    return (norms - norms[0]).numpy()


def read_out(source: torch.Generator) -> Tensor:
    """[B, H], dL/dh_T of every example, N(0, 1)."""
    return torch.randn(EXAMPLES, SIZE, generator=source, dtype=torch.float64)


def symbols(source: torch.Generator) -> Tensor:
    """[T, B, D], a random symbol at every step, one-hot."""
    drawn = torch.randint(SYMBOLS, (STEPS, EXAMPLES), generator=source)
    return F.one_hot(drawn, SYMBOLS).double()
