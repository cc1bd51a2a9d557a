"""Each condition on both sides of its threshold, in words that carry its numbers, in both languages; any log at all."""

import re
import shutil
import string
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from strange_logs import LOGS
from synthetic_runs import Planted, config_of, write_run

import gradflow as gf
from gradflow.config import Config, TrainConfig
from gradflow.diagnosis import Finding
from gradflow.diagnosis.case import Case, Place
from gradflow.diagnosis.conditions import CONDITIONS
from gradflow.diagnosis.words import LANGUAGES, texts, worded
from gradflow.recording.quantities import labels
from gradflow.runlog import RunWriter

SLOPES = ["activation_derivative", "activation_derivative_rms"]
NAMES = {condition.name for condition in CONDITIONS}


def written_log(path: Path, config: Any = None, *, steps: int = 30, about: Any = None, **changes: Any) -> Path:
    """A log of 120 iterations of one layer that is healthy in every respect, but for what is changed.

    Args:
        path: of the folder.
        config: settings; None: a tanh RNN of the lecture's names.
        steps: of the sequences.
        about: facts of the run.
        **changes: `norm`, `loss`: iteration -> value; `fades`: ln of the gradient per step; `slope`, `rms`; `gate`,
            `open`, `scale`; `layers`: the gradient of each in nats; `zeros`: examples without; `iterations`;
            `values`: record -> singular values.
    """
    told = {"norm": lambda i: 1.0, "loss": lambda i: 0.7, "fades": -0.1, "slope": 0.5, "rms": 0.6, "gate": ""}
    told |= {"open": 0.0, "scale": 50.0, "layers": [0.0], "zeros": 0, "values": lambda i: np.ones(4), "iterations": 120}
    told |= {"clipped": lambda i: {}, **changes}
    config = config_of() if config is None else config
    quantities = ["log_relative_gradient", "log_state_gradient", *SLOPES]
    settings = asdict(config) if isinstance(config, Config) else config
    writer = RunWriter(path, meta=about or {}, config=settings, seed=0, quantities=labels(quantities))
    for i in range(told["iterations"]):
        norm = {"log_grad_norm_after": np.log(told["norm"](i)), "non_finite": float(not np.isfinite(told["norm"](i)))}
        writer.append("scalars", i, {"loss": told["loss"](i)} | norm | told["clipped"](i))
        if i % 60 and i != told["iterations"] - 1:
            continue
        for layer, size in enumerate(told["layers"]):
            place = {"module": "rnn", "layer": layer, "direction": 0}
            writer.append("lag", i, {"call": 0} | place | lags(steps, size, told))
            spectrum = {"gate": "h", "index": np.arange(4), "singular_value": told["values"](i)}
            writer.append("spectrum", i, place | spectrum)
            if told["gate"]:
                scales = {"time_scale_q50": told["scale"], "time_scale_q90": told["scale"]}
                rows = {"time": np.arange(steps), "gate": told["gate"], "saturated_high": told["open"], **scales}
                writer.append("gates", i, {"call": 0} | place | rows)
    writer.close("finished")
    return path


def lags(steps: int, size: float, told: dict[str, Any]) -> dict[str, Any]:
    lag = np.arange(steps)
    values = {"log_relative_gradient": lag * told["fades"], "log_state_gradient": size + lag * told["fades"]}
    values |= {SLOPES[0]: np.full(steps, told["slope"]), SLOPES[1]: np.full(steps, told["rms"])}
    rows = {f"{name}_{end}": value for name, value in values.items() for end in ("mean", "q10", "q50", "q90")}
    counts = {f"{name}_{end}": 0 for name in values for end in ("zeros", "non_finite")}
    return {"lag": lag, "valid": 8} | rows | counts | {"log_relative_gradient_zeros": told["zeros"]}


def clipped(threshold: float) -> dict[str, Any]:
    """Norms of 1, which clipping at a threshold cuts."""
    rows = {"log_grad_norm_before": 0.0, "coefficient": min(1.0, threshold), "clipped": float(threshold < 1)}
    about = {"clipped": lambda i: rows, "norm": lambda i: min(1.0, threshold)}
    config = config_of(clip="norm")
    config.clip.threshold = threshold
    return {"config": config} | about


def spike(factor: float, harm: float = 5.0) -> dict[str, Any]:
    """One norm of so many times the others at iteration 80, after which the loss is higher."""
    return {"norm": lambda i: factor if i == 80 else 1.0, "loss": lambda i: 0.7 if i <= 80 else harm}


def a_task(length: int, **train: Any) -> Config:
    config = config_of()
    config = replace(config, data=replace(config.data, source="adding", length=length))
    return replace(config, train=TrainConfig(**train))


SIDES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gradient_vanishes": ({"fades": np.log(0.00099) / 29}, {"fades": np.log(0.00101) / 29}),
    "gradient_grows": ({"fades": np.log(1001) / 29}, {"fades": np.log(999) / 29}),
    "truncated_short": ({"config": a_task(30, truncate=29)}, {"config": a_task(30, truncate=30)}),
    "lower_layers_starved": ({"layers": [np.log(0.00099), 0.0]}, {"layers": [np.log(0.00101), 0.0]}),
    "explosions": (spike(10.1), spike(9.9)),
    "non_finite": ({"norm": lambda i: np.inf if i == 7 else 1.0}, {}),
    "clipping_always": (clipped(0.49), clipped(0.51)),
    "clipping_never": (clipped(10.1), clipped(9.9)),
    "spectrum_drift": (
        {"values": lambda i: np.full(4, 3.2 if i else 1.0)},
        {"values": lambda i: np.full(4, 2.1 if i else 1.1)},
    ),
    "units_saturated": ({"slope": 0.097}, {"slope": 0.098}),
    "units_dead": (
        {"config": config_of("rnn_relu"), "slope": 0.149, "rms": 0.149**0.5},
        {"config": config_of("rnn_relu"), "slope": 0.151, "rms": 0.151**0.5},
    ),
    "gates_cannot_hold": (
        {"config": config_of("lstm"), "gate": "f", "scale": 4.1},
        {"config": config_of("lstm"), "gate": "f", "scale": 4.3},
    ),
    "gates_stuck_open": (
        {"config": config_of("gru"), "gate": "z", "scale": 600.0, "open": 0.951},
        {"config": config_of("gru"), "gate": "z", "scale": 600.0, "open": 0.949},
    ),
    "log_too_short": ({"iterations": 99}, {"iterations": 100}),
}


def finding(path: Path, name: str, **options: Any) -> Finding:
    return next(found for found in gf.diagnose(path, **options).findings if found.name == name)


def check_words(found: Finding) -> None:
    """Every sentence is there in both languages, with its numbers."""
    for lang in LANGUAGES:
        said = [found.title(lang), found.source(lang), found.headline(lang), found.meaning(lang)]
        assert all(said), (found.name, said)
        if found.verdict == "unknown":
            assert found.advice(lang), found
            continue
        assert worded(found.measured) in found.headline(lang), found.headline(lang)
        assert worded(found.threshold) in found.headline(lang), found.headline(lang)
        assert found.unit
        if found.verdict == "ill":
            assert re.search(r"\d", found.advice(lang)), found.advice(lang)
            assert found.code
        else:
            assert found.advice(lang) == found.config == found.code == ""


@pytest.mark.parametrize("name", sorted(SIDES))
def test_a_condition_is_told_from_health_at_its_threshold(name, tmp_path):
    for side, verdict in zip(SIDES[name], ("ill", "healthy"), strict=True):
        diagnosis = gf.diagnose(written_log(tmp_path / verdict, **side))
        found = next(found for found in diagnosis.findings if found.name == name)
        assert found.verdict == verdict, found
        assert [other.name for other in diagnosis.ill] == [name] * (verdict == "ill")
        check_words(found)


def test_every_condition_has_both_sides():
    assert set(SIDES) | {"record_unproved"} == NAMES


@pytest.mark.parametrize(("residual", "verdict"), [(1e-3, "ill"), (1e-7, "healthy"), (None, "unknown")])
def test_a_record_that_failed_its_proof_is_told_first(residual, verdict, tmp_path):
    path = write_run(tmp_path / "run", config_of(names=8), Planted(residual=residual, factor=0.5))
    found = finding(path, "record_unproved")
    assert found.verdict == verdict
    check_words(found)
    assert (gf.diagnose(path).findings[0] == found) == (verdict == "ill")


def test_the_table_and_the_text_hold_every_finding(tmp_path):
    diagnosis = gf.diagnose(written_log(tmp_path / "run", steps=12, fades=-0.7))
    table = diagnosis.table()
    assert table["name"].tolist() == [found.name for found in diagnosis.findings]
    assert diagnosis.findings == diagnosis.ill + diagnosis.unknown + diagnosis.healthy
    (ill,) = diagnosis.ill
    assert ill.measured == pytest.approx(np.exp(-0.7 * 11), rel=1e-5)
    assert ill.config == "init=orthogonal"
    assert ill.code == 'gf.initialise_(layer, "orthogonal")'
    for lang in LANGUAGES:
        text = diagnosis.text(lang)
        assert all(found.headline(lang) in text for found in diagnosis.findings)
        assert all(part in text for part in (ill.source(lang), ill.code, ill.config, ill.figure))


def test_a_task_that_is_solved_is_not_ill_because_its_gradient_is_small(tmp_path):
    criterion = '"success": {"quantity": "test_accuracy", "threshold": 0.9}, "chance"'
    for accuracy, verdict in ((0.95, "healthy"), (0.85, "ill")):
        path = write_run(tmp_path / verdict, config_of(names=8), Planted(accuracy=accuracy))
        description = path / "run.json"
        description.write_text(description.read_text("utf-8").replace('"chance"', criterion, 1), "utf-8")
        found = finding(path, "gradient_vanishes")
        assert found.verdict == verdict
        check_words(found)


@pytest.mark.parametrize(
    ("cell", "steps", "config"),
    [
        ("rnn", 13, "init=orthogonal"),
        ("rnn", 14, "cell=lstm init=remember"),  # 0.57 per step: a thousandth after 12.3
        ("linear", 200, "init=orthogonal"),
        ("rnn_sigmoid", 13, "cell=lstm init=remember"),
        ("lstm", 142, "init=remember"),
        ("lstm", 144, "init=chrono init.time_scale=144"),
    ],
)
def test_what_helps_against_a_gradient_that_vanishes_reaches_as_far_as_the_task(cell, steps, config, tmp_path):
    path = written_log(tmp_path / "run", config_of(cell), steps=steps, fades=-10 / steps)
    assert finding(path, "gradient_vanishes").config == config


def test_answers_without_any_gradient_say_nothing_of_what_a_step_does_to_one(tmp_path):
    for silent, verdict in ((6, "ill"), (8, "unknown")):  # of 8
        growing = finding(written_log(tmp_path / verdict, fades=0.5, zeros=silent), "gradient_grows")
        assert growing.verdict == verdict
        check_words(growing)
    assert growing.reason == "nothing_finite"
    assert finding(tmp_path / "ill", "gradient_vanishes").verdict == "healthy"


def test_an_explosion_that_does_no_harm_or_is_clipped_is_none(tmp_path):
    harmless = finding(written_log(tmp_path / "harmless", **spike(50.0, harm=0.69)), "explosions")
    assert harmless.verdict == "healthy"
    assert "no harm" in harmless.headline()
    rows = {"log_grad_norm_before": 4.0, "coefficient": np.exp(-4.0), "clipped": 1.0}
    held = {"clipped": lambda i: rows if i == 80 else {}, "loss": lambda i: 0.7 if i <= 80 else 5.0}
    assert finding(written_log(tmp_path / "held", **held), "explosions").verdict == "healthy"


@pytest.mark.parametrize("height", [1.0, 2.0])
def test_an_explosion_of_the_first_updates_is_none_of_the_mean_it_is_held_against(height, tmp_path):
    """In two steps, at the second update and the third: the mean before is of one norm, then of half an explosion."""
    norms, losses = [4.3, 29.5, 74.7], [1.49, 1.49 * height, 1.49 * height**2]
    start = {"norm": lambda i: norms[i] if i < 3 else 0.2, "loss": lambda i: losses[i] if i < 3 else 1.4}
    found = finding(written_log(tmp_path, **start), "explosions")
    assert found.verdict == ("ill" if height > 1 else "healthy")
    assert found.values["iteration"] == 2
    assert found.measured == pytest.approx(74.7 / 0.2, rel=1e-3)
    check_words(found)


def test_an_explosion_that_lasts_is_held_against_what_was_before(tmp_path):
    lasting = {"norm": lambda i: 1.0 if i < 2 else 500.0, "loss": lambda i: 0.7 if i < 2 else 5.0}
    assert finding(written_log(tmp_path, **lasting), "explosions").verdict == "ill"


def exploding(at: int, before: Any, about: Any = None, **settings: Any) -> dict[str, Any]:
    """Norms and losses as they are before, then at one iteration an explosion that lasts."""
    told = {"norm": lambda i: before(i) if i < at else 500.0, "loss": lambda i: 0.7 if i < at else 5.0}
    return told | {"config": a_task(30, **settings), "about": about}


def test_what_holds_a_gradient_that_grows_keeps_units_that_are_linear(tmp_path):
    found = finding(written_log(tmp_path, config_of("rnn_relu"), fades=0.5), "gradient_grows")
    assert found.config == "init=identity init.gain=1"  # of an orthogonal W half of ReLU's slopes are 0


@pytest.mark.parametrize(("after", "verdict"), [(1e-4, "healthy"), (0.3, "ill")])
def test_a_hard_batch_of_a_network_that_has_learned_is_no_explosion(after, verdict, tmp_path):
    told = {"norm": lambda i: 60.0 if i == 100 else 1.0}
    told |= {"loss": lambda i: 0.7 if i < 50 else 1e-4 if i < 100 else 0.3 if i == 100 else after}
    found = finding(written_log(tmp_path, **told), "explosions")
    assert found.verdict == verdict
    assert found.values["loss_after"] == pytest.approx(after)
    check_words(found)


@pytest.mark.parametrize("spread", [0.1, pytest.param(1.0, marks=pytest.mark.slow)])
def test_what_is_clipped_at_as_an_explosion_asked_for_is_well_clipped(spread, tmp_path):
    norms = np.random.default_rng(0).lognormal(0.0, spread, 120)
    told = exploding(80, lambda i: float(norms[i]), optimizer="sgd") | {"loss": lambda i: 0.7 if i <= 80 else 5.0}
    threshold = finding(written_log(tmp_path / "before", **told), "explosions").values["suggested"]
    rows = [
        {"log_grad_norm_before": np.log(norm), "coefficient": min(1.0, threshold / norm)}
        | {"clipped": float(norm > threshold)}
        for norm in norms
    ]
    held = {"clipped": lambda i: rows[i], "norm": lambda i: min(threshold, float(norms[i]))}
    path = written_log(tmp_path / "after", clipped(threshold)["config"], **held)
    assert not gf.diagnose(path).ill


def test_clipping_that_leaves_a_third_of_the_updates_is_not_too_tight(tmp_path):
    for every, verdict in ((3, "healthy"), (5, "ill")):
        told = clipped(0.3)
        cut = told["clipped"](0)
        left = cut | {"log_grad_norm_before": np.log(0.2), "coefficient": 1.0, "clipped": 0.0}
        told |= {"clipped": lambda i, every=every, cut=cut, left=left: cut if i % every else left}
        found = finding(written_log(tmp_path / verdict, **told), "clipping_always")
        assert found.verdict == verdict
        check_words(found)


def test_an_explosion_is_clipped_at_half_of_what_was_harmless_before(tmp_path):
    told = {
        "sgd": exploding(80, lambda i: 1.0 + i / 79, optimizer="sgd"),
        "learned": exploding(250, lambda i: 1.0 if i < 100 else 1e-6, optimizer="sgd") | {"iterations": 300},
        "start": exploding(3, lambda i: 4.0 - i, optimizer="sgd"),
    }
    found, learned, start = (finding(written_log(tmp_path / name, **told[name]), "explosions") for name in told)
    median = 1.0 + 78 / 2 / 79  # of the last of them, which made it explode, the loss rose
    assert found.config == f"clip=norm clip.threshold={median / 2:.2g}"
    assert found.code == f"gf.clip_grad_norm_(model.parameters(), max_norm={median / 2:.2g})"
    check_words(found)
    assert learned.values["suggested"] == 0.5
    assert start.values["suggested"] == 2.0
    assert start.config.startswith("clip=norm clip.threshold=2 train.lr=")
    check_words(start)


def test_against_explosions_of_adam_the_rate_is_lowered(tmp_path):
    script = {"optimizer": "sgd", "about": {"optimizers": {"0": "AdamW"}}}
    for name, told in {"own": {"optimizer": "adam"}, "script": script}.items():
        found = finding(written_log(tmp_path / name, **exploding(80, lambda i: 1.0, **told)), "explosions")
        assert "clip" not in found.config + found.code, found
        check_words(found)


def test_clipping_is_not_too_loose_because_the_network_has_learned(tmp_path):
    later = {"log_grad_norm_before": np.log(0.01), "coefficient": 1.0, "clipped": 0.0}
    told = clipped(0.9)
    cut, norm = told["clipped"](0), told["norm"](0)
    learned = {"clipped": lambda i: cut if i < 100 else later, "norm": lambda i: norm if i < 100 else 0.01}
    path = written_log(tmp_path / "learned", iterations=500, **told | learned)
    assert finding(path, "clipping_never").verdict == "healthy"
    assert finding(path, "clipping_never").measured == pytest.approx(0.9)
    quick = {"clipped": lambda i: cut if i < 30 else later, "norm": lambda i: norm if i < 30 else 0.01}
    found = finding(written_log(tmp_path / "quick", **told | quick), "clipping_never")
    assert found.verdict == "healthy"
    assert found.measured == pytest.approx(90)
    check_words(found)


def test_of_a_script_of_ones_own_the_lag_may_be_given(tmp_path):
    path = written_log(tmp_path / "run", config={}, gate="f", scale=4.0, fades=-0.3)
    diagnosis = {found.name: found for found in gf.diagnose(path).findings}
    for name in ("gradient_vanishes", "truncated_short", "gates_cannot_hold"):
        assert diagnosis[name].verdict == "unknown"
        assert "length=" in diagnosis[name].advice()
        assert not diagnosis[name].config
        check_words(diagnosis[name])
    assert finding(path, "gradient_vanishes", length=20).verdict == "healthy"
    far = finding(path, "gradient_vanishes", length=101)  # farther than was recorded
    assert "No more than 29 steps back were recorded" in far.meaning()
    assert "记录只到回传 29 步" in far.meaning("zh")
    assert far.verdict == "ill"
    assert far.measured == pytest.approx(np.exp(-0.3 * 100), rel=1e-4)
    assert far.config == ""
    assert finding(path, "truncated_short", length=31).verdict == "ill"


def test_the_worst_place_is_told(tmp_path):
    found = finding(written_log(tmp_path / "run", layers=[0.0, 0.0], fades=-0.5), "gradient_vanishes")
    assert found.where == "l0"
    assert finding(written_log(tmp_path / "one", fades=-0.5), "gradient_vanishes").where == ""


@pytest.mark.parametrize("name", sorted(LOGS))
@pytest.mark.slow
def test_any_log_is_diagnosed(name, tmp_path):
    torch.manual_seed(0)
    LOGS[name](tmp_path)
    runs = [tmp_path] if (tmp_path / "run.json").exists() else sorted(tmp_path.iterdir())
    for run in runs:
        for length in (None, 50):
            for found in gf.diagnose(run, length=length).findings:
                check_words(found)


def test_logs_without_rows_or_with_damage_are_diagnosed(tmp_path):
    empty = tmp_path / "empty"
    RunWriter(empty, meta={}, quantities=labels(["log_state_gradient"])).close("failed")
    told = gf.diagnose(empty)
    assert {found.verdict for found in told.findings} == {"ill", "unknown"}
    assert [found.name for found in told.ill] == ["log_too_short"]
    whole = written_log(tmp_path / "whole")
    for damaged in ("lag", "scalars", "spectrum"):
        path = tmp_path / damaged
        shutil.copytree(whole, path)
        for part in (path / "gradients" / damaged).glob("*.parquet"):
            part.write_bytes(b"PAR1")
        told = gf.diagnose(path)
        assert any(found.reason == "unreadable" for found in told.unknown)
        for found in told.findings:
            check_words(found)
    (path / "run.json").write_text("{")
    assert {found.reason for found in gf.diagnose(path).unknown} >= {"unreadable"}


CHINESE = re.compile(r"[一-鿿]")


def test_everything_that_a_finding_says_is_chinese_where_chinese_is_asked_for():
    for key, text in texts("zh").items():
        assert CHINESE.search(text) or key == "text.code", key
    assert not any(CHINESE.search(text) for text in texts("en").values())


def test_a_share_in_per_cent_is_no_power_of_ten(tmp_path):
    found = finding(written_log(tmp_path, config_of("gru"), gate="z", scale=0.4, open=0.1), "gates_stuck_open")
    assert "and <0.1 % of the old state is left" in found.headline()
    assert "<0.1%" in found.headline("zh")


@pytest.mark.parametrize("wanted", [500, None])
def test_a_run_that_goes_on_is_no_patient_yet(wanted, tmp_path):
    writer = RunWriter(tmp_path, meta={}, config={"train": {"iterations": wanted}} if wanted else {})
    for i in range(12):
        writer.append("scalars", i, {"loss": 0.7, "log_grad_norm_after": 0.0, "non_finite": 0.0})
    writer.flush()
    told = gf.diagnose(tmp_path)
    assert not told.ill
    short = next(found for found in told.unknown if found.name == "log_too_short")
    check_words(short)
    assert (short.measured, short.threshold, short.reason) == (12, 100, "running")
    for lang, go_on in (("en", "The run is going on, 12"), ("zh", "运行仍在进行，磁盘上已有 12")):
        assert told.text(lang).startswith(go_on)
        assert (" 500 " in told.text(lang).splitlines()[0]) == (wanted is not None)
    assert any(found.name == "non_finite" for found in told.healthy)  # what is known is told
    writer.close("finished")
    assert [found.name for found in gf.diagnose(tmp_path).ill] == ["log_too_short"]
    assert gf.diagnose(tmp_path).text().startswith("1 ill")


def test_what_cannot_be_diagnosed_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="path: expected the folder of a run"):
        gf.diagnose(tmp_path)
    path = written_log(tmp_path / "run")
    with pytest.raises(TypeError, match=r"run: expected a run or its folder.*diagnose each of its members"):
        gf.diagnose(gf.open_sweep(tmp_path))
    with pytest.raises(TypeError, match=r"run: expected a run or its folder.*got 5"):
        gf.diagnose(5)
    with pytest.raises(ValueError, match="length: expected a finite number of at least 1, got 0"):
        gf.diagnose(path, length=0)
    with pytest.raises(ValueError, match="lang: expected one of en, zh, got 'fr'"):
        gf.diagnose(path).text("fr")


def test_both_languages_say_the_same():
    english, chinese = (texts(lang) for lang in LANGUAGES)
    assert list(english) == list(chinese)
    for key, text in english.items():
        fields = [{name for _, name, _, _ in string.Formatter().parse(said) if name} for said in (text, chinese[key])]
        assert fields[0] == fields[1], key
    assert {key.split(".")[0] for key in english} == NAMES | {"text", "unknown", "reason", "record"}
    assert all(f"{name}.{verdict}.headline" in english for name in NAMES for verdict in ("ill", "healthy"))


def test_figures_that_are_named_exist():
    from gradflow.figures.room import of_kind

    assert {condition.figure for condition in CONDITIONS} - {""} <= set(of_kind("log"))


def test_without_a_loss_nothing_is_said_of_the_harm_of_an_explosion(tmp_path):
    found = finding(
        written_log(tmp_path / "run", **spike(50.0, harm=np.nan) | {"loss": lambda i: np.nan}), "explosions"
    )
    assert found.verdict == "unknown"
    assert found.measured == pytest.approx(50)
    check_words(found)


@pytest.mark.slow
def test_networks_made_ill_are_found_and_get_well(script, monkeypatch, tmp_path):
    proof = script("benchmarks/diagnosis.py")
    monkeypatch.setattr(proof, "FOLDER", tmp_path)
    for condition in ("gradient_vanishes", "truncated_short", "clipping_always", "gates_cannot_hold"):
        ill = proof.Network.of(f"{proof.SMALL} {proof.ILL[condition][0]} seed=0")
        (row,) = proof.examine(condition, ill)
        assert (row["verdict"], row["after"]) == ("ill", "healthy"), row
    healthy = proof.Network.of(f"{proof.SMALL} {proof.HEALTHY[0]} seed=0")
    rows = proof.examine("", healthy)
    assert {row["verdict"] for row in rows} == {"healthy"}
    table = proof.confusion(proof.pd.DataFrame([*rows, {"after": None, **row}]))
    counted = table.set_index("condition").loc["gates_cannot_hold"]
    assert (counted["seeds"], counted["ill"], counted["found"], counted["well"]) == ("tuned", 1, 1, 1)


@pytest.mark.parametrize(
    ("data", "lag"),
    [
        ({"source": "adding", "length": 50}, 49),
        ({"source": "copy_memory", "length": 50, "symbols": 10}, 40),
        ({"source": "chaotic_map", "length": 50}, np.nan),
        ({"source": "generated"}, np.inf),
        ({"source": "penn treebank", "length": 50}, np.nan),
        ({"source": "adding", "length": "long"}, np.nan),
    ],
)
def test_the_lag_that_matters_is_that_of_the_task(data, lag):
    run = SimpleNamespace(config={"data": data})
    assert Case(run).known_lag == pytest.approx(lag, nan_ok=True)
    assert Case(run, length=5).known_lag == 4
    both = Place(run, "rnn", 0, 1, both=True)
    assert Case(run, length=5).lag(both, 30.0) == 4
    whole = min(lag, 30.0) if np.isinf(lag) else lag
    assert Case(run).lag(both, 30.0) == pytest.approx(whole // 2, nan_ok=True)  # the other direction reaches the rest
