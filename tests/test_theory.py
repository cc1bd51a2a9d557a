"""Exact results against other ways to the same numbers: many digits, plain loops, dual numbers, autograd."""

import math

import mpmath
import numpy as np
import pandas as pd
import pytest
import torch
from exact_tables import table

import gradflow as gf
from gradflow import theory
from gradflow.theory import composition, linear, lyapunov, mean_field, memory, saturation
from gradflow.theory.networks import gaussian, generator, gradients_of_last, log_radius, orthogonal, traced
from gradflow.theory.unit import LogisticUnit

LYAPUNOV = {0.5: -0.6931, 0.9: -0.1054, 1.1: 0.0051, 1.2: 0.0165, 1.5: 0.0652, 2.0: 0.1547, 3.0: 0.3103, 5.0: 0.5324}


def rows(name: str, **values) -> pd.DataFrame:
    data = table(name)
    for column, value in values.items():
        data = data[data[column] == value]
    assert len(data)
    return data


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def unit(w: float, b: float, steps: int) -> tuple[float, float, float]:
    """x_T of the unit from 0.5, and its derivatives in w and in b, by dual numbers."""
    x, by_w, by_b = 0.5, 0.0, 0.0
    for _ in range(steps):
        slope = w * sigma(x) * (1 - sigma(x))
        x, by_w, by_b = w * sigma(x) + b, sigma(x) + slope * by_w, 1 + slope * by_b
    return x, by_w, by_b


def error(w: float, b: float) -> tuple[float, float, float]:
    """(σ(x_50) - 0.7)² and its derivatives in w and in b."""
    x, by_w, by_b = unit(w, b, 50)
    outer = 2 * (sigma(x) - 0.7) * sigma(x) * (1 - sigma(x))
    return (sigma(x) - 0.7) ** 2, outer * by_w, outer * by_b


# --- all tables ------------------------------------------------------------------------------------------------------


def test_the_room_is_reached_lazily_and_names_what_it_has():
    assert gf.theory is theory
    assert {function.__name__ for function in theory.EXACT.values()} == set(theory.__all__) - {"EXACT"}


@pytest.mark.parametrize("name", theory.EXACT)
def test_tables_are_finished_numbers(name):
    data = table(name)
    assert data.index.equals(pd.RangeIndex(len(data)))
    numbers = data.select_dtypes("number")
    assert not np.isinf(numbers.to_numpy(dtype=float)).any()
    assert all(dtype in (np.float64, np.int64) for dtype in numbers.dtypes)


@pytest.mark.parametrize(
    "name", ["jacobian_product_by_lag", "activation_saturation", "memory_sensitivity", "repeated_composition"]
)
def test_the_same_seed_gives_the_same_numbers_and_another_others(name, monkeypatch):
    smaller = [(saturation, "SIZE", 16), (memory, "DECAYS", (0.5, 0.9)), (linear, "SIZE", 8), (composition, "SIZE", 8)]
    for module, constant, value in smaller:
        monkeypatch.setattr(module, constant, value)
    compute = theory.EXACT[name]
    first = compute()
    pd.testing.assert_frame_equal(first, compute(seed=0), check_exact=True)
    assert not first.equals(compute(seed=1))


# --- mean-field theory -----------------------------------------------------------------------------------------------


def test_rates_of_mean_field_theory_are_the_published_ones():
    for gain, published in LYAPUNOV.items():
        assert abs(mean_field.log_growth(gain) - published) <= 5.1e-5


@pytest.mark.parametrize(("gain", "input_variance"), [(1.2, 0.0), (3.0, 0.0), (0.5, 1.0), (3.0, 1.0)])
def test_mean_field_theory_in_many_digits(gain, input_variance):
    """q as the root that mpmath finds, means by its adaptive quadrature."""

    def mean(function, q):
        density = lambda z: mpmath.exp(-z * z / 2) / mpmath.sqrt(2 * mpmath.pi)  # noqa: E731
        return mpmath.quad(lambda z: function(mpmath.sqrt(q) * z) * density(z), [-14, -6, -2, 0, 2, 6, 14])

    with mpmath.workdps(18):
        found = mean_field.variance(gain, input_variance)
        q = mpmath.findroot(lambda q: gain**2 * mean(lambda a: mpmath.tanh(a) ** 2, q) + input_variance - q, found)
        rate = mpmath.log(gain**2 * mean(lambda a: mpmath.sech(a) ** 4, q)) / 2
    assert math.isclose(found, float(q), rel_tol=1e-11)
    assert math.isclose(mean_field.log_growth(gain, input_variance), float(rate), abs_tol=1e-11)


def test_without_input_and_below_one_nothing_stays():
    assert mean_field.variance(1.0) == mean_field.variance(0.3) == 0
    assert math.isclose(mean_field.log_growth(0.3), math.log(0.3))


# --- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["linear", "rnn"])
def test_networks_run_the_recurrence_and_give_gradients_of_the_last_state(cell):
    source = generator(3)
    weight, x, h_0 = gaussian(5, source), torch.randn(6, 2, 5, generator=source).double(), torch.ones(2, 5).double()
    direct = torch.randn(2, 5, generator=source).double()
    seen = traced(cell, weight, x, h_0)
    h, states = h_0, []
    for x_t in x:
        h = (h.detach() if not states else h) @ weight.T + x_t
        h = (torch.tanh(h) if cell == "rnn" else h).requires_grad_()
        h.retain_grad()
        states.append(h)
    (h * direct).sum().backward()
    torch.testing.assert_close(seen[0, 0].states["h"], torch.stack(states).detach())
    torch.testing.assert_close(gradients_of_last(seen, direct).value["h"], torch.stack([s.grad for s in states]))


def test_random_matrices_are_what_they_are_called():
    w, q = gaussian(400, generator(0)), orthogonal(20, generator(0))
    assert abs(float(w.std()) * 20 - 1) < 0.01
    assert abs(float(torch.linalg.matrix_norm(w, 2)) - 2) < 0.1
    torch.testing.assert_close(q @ q.T, torch.eye(20).double())
    assert abs(log_radius(q)) < 1e-12


# --- products of Jacobians -------------------------------------------------------------------------------------------


def test_norms_of_products_are_those_of_powers():
    source = generator(0)
    shapes = {"orthogonal": orthogonal(linear.SIZE, source), "gaussian": gaussian(linear.SIZE, source)}
    for (weights, scale), curve in rows("jacobian_product_by_lag", cell="linear").groupby(["weights", "scale"]):
        weight = scale * shapes[weights]
        for lag in (0, 1, 2, 7, 30):
            norm = torch.linalg.matrix_norm(torch.linalg.matrix_power(weight, lag), 2)
            found = curve.loc[curve["lag"] == lag, "log_norm"].item()
            assert abs(found - float(norm.log())) < 1e-9
        assert math.isclose(curve["log_sigma"].iloc[0], float(torch.linalg.svdvals(weight)[0].log()), abs_tol=1e-12)


def test_products_of_the_tanh_network_are_those_of_its_jacobians(monkeypatch):
    monkeypatch.setattr(linear, "SIZE", 4)
    monkeypatch.setattr(linear, "LAGS", 12)
    data = theory.linear_slopes(seed=5)
    source = generator(5)
    orthogonal(4, source)
    weight = linear.GAIN * gaussian(4, source)
    x = linear.INPUT_DEVIATION * torch.randn(12, 1, 4, generator=source, dtype=torch.float64)
    h, jacobians = torch.zeros(4).double(), []
    for x_t in x[:, 0]:
        h = torch.tanh(weight @ h + x_t)
        jacobians.append(torch.diag(1 - h**2) @ weight)
    product, norms = torch.eye(4).double(), [0.0]
    for jacobian in reversed(jacobians):
        product = product @ jacobian
        norms.append(float(torch.linalg.matrix_norm(product, 2).log()))
    np.testing.assert_allclose(data.loc[data["cell"] == "rnn", "log_norm"], norms, atol=1e-9)


# --- saturation ------------------------------------------------------------------------------------------------------


def test_slopes_and_moments_of_a_small_network_by_plain_loops(monkeypatch):
    for constant, value in {"SIZE": 6, "STEPS": 30, "EXAMPLES": 2, "SETTLED": 8}.items():
        monkeypatch.setattr(saturation, constant, value)
    found = saturation._network(1.5, generator(4))
    source = generator(4)
    weight = 1.5 * gaussian(6, source)
    x = torch.randn(30, 2, 6, generator=source, dtype=torch.float64)
    direct = torch.randn(2, 6, generator=source, dtype=torch.float64)
    h, before, states = torch.zeros(2, 6).double(), [], []
    for x_t in x:
        before.append(h @ weight.T + x_t)
        h = torch.tanh(before[-1])
        states.append(h)
    delta, logs = direct, [direct.norm(dim=1).log().mean()]
    for h in reversed(states[1:]):
        delta = ((1 - h**2) * delta) @ weight
        logs.append(delta.norm(dim=1).log().mean())
    late = np.arange(5, 22)
    phi = 1 - torch.stack(states[8:]) ** 2
    assert math.isclose(found["slope"], np.polyfit(late, np.array(logs)[late], 1)[0], rel_tol=1e-10)
    assert math.isclose(found["mean"], float(phi.mean()), rel_tol=1e-12)
    assert math.isclose(found["root_mean_square"], float((phi**2).mean()) ** 0.5, rel_tol=1e-12)
    np.testing.assert_allclose(found["a"], torch.stack(before[8:]).flatten(), atol=1e-12)


def test_densities_integrate_to_one_as_far_as_the_axis_goes():
    for gain, part in rows("activation_saturation", quantity="density").groupby("gain"):
        width = part["x"].iloc[1] - part["x"].iloc[0]
        assert abs(part["measured"].sum() * width - 1) < 1e-9
        assert (part["measured"] - part["expected"]).abs().max() < 0.02, gain


# --- cliff -----------------------------------------------------------------------------------------------------------


def test_the_unit_keeps_to_what_a_cell_must():
    gf.testing.check_cell(LogisticUnit(), input_size=2)


def test_error_and_gradient_by_dual_numbers():
    surface = rows("error_surface_cliff", quantity="surface").iloc[::997]
    for _, point in surface.iterrows():
        value, by_w, by_b = error(point["w"], point["b"])
        assert math.isclose(point["error"], value, rel_tol=1e-6, abs_tol=1e-12)
        assert math.isclose(point["norm"], math.hypot(by_w, by_b), rel_tol=1e-6, abs_tol=1e-12)


@pytest.mark.parametrize(("name", "threshold"), [("unclipped", math.inf), ("clipped", 0.5)])
def test_descents_by_dual_numbers(name, threshold):
    path, (w, b) = rows("error_surface_cliff", quantity=name), (5.0, -2.7)
    for _, point in path.iterrows():
        value, *gradient = error(w, b)
        norm = math.hypot(*gradient)
        coefficient = min(1.0, threshold / (norm + 1e-6))
        np.testing.assert_allclose(
            point[["w", "b", "error", "norm", "norm_after"]].to_numpy(dtype=float),
            [w, b, value, norm, norm * coefficient],
            rtol=1e-6,
        )
        w, b = w - 0.1 * coefficient * gradient[0], b - 0.1 * coefficient * gradient[1]
    assert len(path) == 61


def test_a_hair_beside_the_cliff_the_unit_ends_elsewhere():
    for _, point in rows("error_surface_cliff", quantity="cliff").iterrows():
        if point["w"] >= 4.5:  # nearer to 4.2553 it takes longer than a thousand steps
            ends = [unit(point["w"], point["b"] + beside, 1000)[0] for beside in (-1e-9, 1e-9)]
            assert ends[0] < -0.5 < 0.5 + 1e-3 < ends[1]


# --- bifurcation -----------------------------------------------------------------------------------------------------


def test_fixed_points_stay_and_their_slopes_are_differences():
    step = lambda x, b: 5 * sigma(x) + b  # noqa: E731
    for _, point in rows("bifurcation_diagram", quantity="fixed_point").iloc[::7].iterrows():
        x, b = point["x"], point["b"]
        assert math.isclose(step(x, b), x, abs_tol=1e-12)
        assert math.isclose((step(x + 1e-5, b) - step(x - 1e-5, b)) / 2e-5, point["measured"], abs_tol=1e-8)


def test_folds_are_the_published_ones():
    folds = rows("bifurcation_diagram", quantity="fold")
    np.testing.assert_allclose(sorted(folds["measured"]), [-2.65561, -2.34439], atol=5e-6)
    np.testing.assert_allclose(folds["measured"], folds["expected"], atol=1e-12)


def test_sensitivities_by_dual_numbers():
    for _, point in rows("bifurcation_diagram", quantity="sensitivity", steps=50).iloc[::5].iterrows():
        x, _, by_b = unit(5.0, point["b"], 50)
        assert math.isclose(point["measured"], math.log(abs(by_b)), rel_tol=1e-6)
        assert math.isclose(point["x"], x, abs_tol=1e-9)


def test_attractors_are_counted_as_a_plain_loop_finds_them():
    for _, point in rows("bifurcation_diagram", quantity="attractors").iterrows():
        ends = []
        for x in (-20.0, 20.0):
            for _ in range(3000):
                x = 5 * sigma(x) + point["b"]
            ends.append(round(x, 3))
        assert len(set(ends)) == point["measured"]


def test_where_the_start_is_forgotten_the_horizon_does_not_matter():
    data = rows("bifurcation_diagram", quantity="sensitivity")
    settled = data[data["expected"].notna()]
    assert settled.groupby("steps").size().reindex((10, 50, 200), fill_value=0).is_monotonic_increasing
    assert (settled["measured"] - settled["expected"]).abs().max() < 1e-9


# --- curse of memory -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.98])
def test_closed_forms_are_the_sums_they_come_from(decay):
    expected = memory._expected(decay)
    k = np.arange(5000)
    assert math.isclose(expected["state"], np.sum(decay ** (2 * k)), rel_tol=1e-10)
    assert math.isclose(expected["sensitivity"], np.sum((k * decay ** (k - 1.0)) ** 2), rel_tol=1e-10)


def test_sensitivity_of_each_example_by_its_recursion(monkeypatch):
    monkeypatch.setattr(memory, "BATCH", 7)
    found = memory._batch(0.8, 30, generator(1))
    h, by_decay = torch.zeros(7).double(), torch.zeros(7).double()
    for x in torch.randn(30, 7, 1, generator=generator(1), dtype=torch.float64)[..., 0]:
        h, by_decay = 0.8 * h + x, h + 0.8 * by_decay
    torch.testing.assert_close(found["state"], h)
    torch.testing.assert_close(found["sensitivity"], by_decay)
    torch.testing.assert_close(found["state_gradient"], torch.ones(7).double())


# --- tanh ------------------------------------------------------------------------------------------------------------


def test_tanh_and_its_derivative_in_many_digits():
    data = rows("tanh_derivative")
    with mpmath.workdps(30):
        by_name = {"tanh": mpmath.tanh, "derivative": lambda a: mpmath.sech(a) ** 2}
        for quantity, function in by_name.items():
            for _, point in data[data["quantity"] == quantity].iterrows():
                assert math.isclose(point["measured"], float(function(point["a"])), rel_tol=1e-12), point["a"]


def test_products_of_tanh_derivatives_by_autograd():
    product = rows("tanh_derivative", quantity="product")
    first = h = torch.tensor(1.0, dtype=torch.float64).tanh().requires_grad_()
    for steps, measured in zip(product["steps"], product["measured"], strict=True):
        (gradient,) = torch.autograd.grad(h, first, retain_graph=True)
        assert math.isclose(measured, float(gradient), rel_tol=1e-12), steps
        h = torch.tanh(h + (1 - h.detach()))


# --- repeated composition --------------------------------------------------------------------------------------------


def test_compositions_and_their_slopes_by_plain_loops_and_autograd(monkeypatch):
    for constant, value in {"SIZE": 7, "POINTS": 9, "NETWORKS": 1}.items():
        monkeypatch.setattr(composition, constant, value)
    data = theory.repeated_composition(seed=2)
    source = generator(2, 0)
    weight, line = composition.GAIN * gaussian(7, source), composition._line(source)

    def composed(s: torch.Tensor, k: int) -> torch.Tensor:
        h = line.start + s * line.direction
        for _ in range(k):
            h = torch.tanh(weight @ h)
        return h

    for k in range(6):
        own = data[(data["k"] == k) & data["s"].notna()]
        tangents = []
        for s, part in own.groupby("s"):
            place = torch.tensor(s, dtype=torch.float64)
            tangent = torch.autograd.functional.jacobian(lambda s, k=k: composed(s, k), place)
            found = part.set_index("quantity")["measured"]
            assert math.isclose(found["curve"], float(line.view @ composed(place, k)), rel_tol=1e-10, abs_tol=1e-12)
            assert math.isclose(found["slope"], float(line.view @ tangent), rel_tol=1e-10, abs_tol=1e-12)
            tangents.append(tangent)
        steep = torch.stack(tangents).square().mean().sqrt().log()
        log_slope = data[(data["quantity"] == "log_slope") & (data["k"] == k)]["measured"].item()
        assert math.isclose(log_slope, float(steep), abs_tol=1e-10)


def test_the_line_is_what_it_is_called():
    line = composition._line(generator(1))
    lengths = [float(part.norm()) for part in line]
    np.testing.assert_allclose(lengths, [10, 10, 1])
    assert abs(float(line.start @ line.direction)) < 1e-10
    assert abs(float(line.start @ line.view)) < 1e-10


def test_turning_points_are_those_of_the_curve():
    turns = rows("repeated_composition", quantity="turning_points", network=0).set_index("k")["measured"]
    for k, curve in rows("repeated_composition", quantity="curve").groupby("k"):
        rises = np.sign(np.diff(curve["measured"]))
        assert np.sum(rises[1:] != rises[:-1]) == turns[k], k


# --- Lyapunov exponents ----------------------------------------------------------------------------------------------


def test_the_largest_exponent_by_pushing_a_vector_along(monkeypatch):
    monkeypatch.setattr(lyapunov, "STEPS", 400)
    monkeypatch.setattr(lyapunov, "BURN_IN", 200)
    weight = 2.5 * gaussian(60, generator(8))
    J = lyapunov._jacobian("autonomous", weight, generator(9))
    h = torch.randn(1, 60, generator=generator(9), dtype=torch.float64)[0]
    vector, total = torch.ones(60).double(), 0.0
    for t in range(400):
        h = torch.tanh(weight @ h)
        vector = (1 - h**2) * (weight @ vector)
        total += float(vector.norm().log()) if t >= 200 else 0.0
        vector = vector / vector.norm()
    found = float(gf.lyapunov_exponents(J, 200, count=1))
    assert abs(found - total / 200) < 0.02
    assert abs(found - float(gf.lyapunov_exponents(J, 200)[0, 0])) < 0.02


def test_spectra_are_whole_and_sorted():
    for _, part in rows("lyapunov_spectrum", quantity="spectrum").groupby("gain"):
        assert part["measured"].is_monotonic_decreasing
        assert part["position"].iloc[-1] == 1
