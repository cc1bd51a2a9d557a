"""The live page: every number against a slow one, what it takes and refuses, its texts, its server, its file."""

import base64
import gzip
import json
import re
import string
import sys
from importlib.resources import files
from threading import Thread
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch

from gradflow.commands import live as command
from gradflow.commands.cli import main
from gradflow.live import cliff, gradients, settings, write_live
from gradflow.live.gradients import flow
from gradflow.live.page import live_page
from gradflow.live.panels import SETTINGS, Panels, key
from gradflow.live.settings import BIAS, CLIP, GAIN, NAMES, STEPS, Space, checked
from gradflow.live.training import EVERY, ITERATIONS, Run, Runs, answer, training
from gradflow.live.words import own_texts
from gradflow.theory import error_surface
from gradflow.theory.error_surface import error_of
from gradflow.theory.networks import generator

STARTS = {"rnn": 1.3, "linear": 0.9, "lstm": 2.0, "gru": 1.0}
SMALL = Space(
    starts={"rnn": (0.6,), "lstm": (0.0,)},
    steps=(5, 20),
    clips=(0.5, None),
    trained={"rnn": (1.0,)},
    trained_clips=(None,),
    length=1,
    names=NAMES[:1],
)


# --- gradients and singular values -----------------------------------------------------------------------------------


def split_pass(cell: str, start: float, steps: int, back: int):
    """The layer run until `back` steps before the end, its states there as leaves, and the output at the end."""
    layer = gradients._model(cell, start).recurrent
    symbols = torch.randint(gradients.SYMBOLS, (steps + 1, gradients.EXAMPLES), generator=generator(gradients.SEED))
    _, states = layer(symbols[: steps + 1 - back])
    leaves = [state.detach().requires_grad_() for state in (states if isinstance(states, tuple) else (states,))]
    given = tuple(leaves) if isinstance(states, tuple) else leaves[0]
    return leaves, layer(symbols[steps + 1 - back :], given)


@pytest.mark.parametrize("cell", STARTS)
def test_gradients_are_those_of_autograd(cell):
    steps, start = 8, STARTS[cell]
    table = flow(cell, start, steps)
    v = torch.randn(8, 64, generator=generator(gradients.SEED, 1), dtype=torch.float64)
    for back in (1, 5, 8):
        leaves, (output, _) = split_pass(cell, start, steps, back)
        (output[-1] * v).sum().backward()
        ratio = leaves[0].grad[0].norm(dim=-1) / v.norm(dim=-1)
        expected = [ratio.min().item(), ratio.log().quantile(0.5).exp().item(), ratio.max().item()]
        assert [table[name][back] for name in ("low", "median", "high")] == pytest.approx(expected, rel=1e-9)
    assert table["median"][0] == 1
    assert table["left"] == table["median"][-1]


@pytest.mark.parametrize("cell", STARTS)
def test_singular_values_are_those_of_the_dense_matrices(cell):
    steps, start = 5, STARTS[cell]
    table = flow(cell, start, steps)
    leaves, (_, finals) = split_pass(cell, start, steps, 1)
    after = torch.cat([state[0, 0] for state in (finals if isinstance(finals, tuple) else (finals,))])
    rows = [torch.autograd.grad(entry, leaves, retain_graph=True) for entry in after]
    dense = torch.stack([torch.cat([part[0, 0] for part in row]) for row in rows])
    assert table["jacobian"] == pytest.approx(torch.linalg.svdvals(dense).tolist(), rel=1e-7, abs=1e-12)
    weight = gradients._model(cell, start).recurrent.weight_hh_l0.detach()
    block = {"lstm": weight[128:192], "gru": weight[128:]}.get(cell, weight)
    assert table["weight"] == pytest.approx(torch.linalg.svdvals(block).tolist(), rel=1e-9, abs=1e-12)
    assert table["radius"] == pytest.approx(torch.linalg.eigvals(block).abs().max().item(), rel=1e-9)


def test_the_headline_says_what_is_seen():
    table = flow("rnn", 0.6, 20)
    assert table["headline"]["en"] == "Each step back keeps 0.609 of the gradient: 6.4×10⁻⁵ is left after 20 steps"
    assert table["headline"]["zh"] == "每回传一步，梯度只剩\xa00.609\xa0倍：20\xa0步后只有\xa06.4×10⁻⁵"
    assert "multiplies" in flow("linear", 2.0, 20)["headline"]["en"]
    assert "keeps its size" in flow("rnn", 1.0, 20)["headline"]["en"]
    assert "drops at first" in flow("lstm", 5.0, 20)["headline"]["en"]


# --- the error surface -----------------------------------------------------------------------------------------------


def test_the_surface_is_that_of_autograd():
    random = np.random.default_rng(0)
    w, b = random.uniform(4.6, 5.1, 100), random.uniform(-2.8, -2.3, 100)
    parameters = torch.tensor(np.stack((w, b), -1), requires_grad=True)
    wanted = error_of(parameters)
    wanted.sum().backward()
    error, by_w, by_b = cliff.error_and_gradient(w, b, error_surface.STEPS)
    np.testing.assert_allclose(error, wanted.detach(), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(np.stack((by_w, by_b), -1), parameters.grad, rtol=1e-7, atol=1e-13)


@pytest.mark.parametrize("clip", [float("inf"), 0.5])
def test_the_descent_is_that_of_torch(clip):
    updates = 4
    parameters = torch.nn.Parameter(torch.tensor([error_surface.ORIGIN], dtype=torch.float64))
    optimizer = torch.optim.SGD([parameters], lr=error_surface.LEARNING_RATE)
    wanted, norms = [parameters[0].tolist()], []
    for _ in range(updates):
        optimizer.zero_grad()
        error_of(parameters).sum().backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_([parameters], clip)))
        optimizer.step()
        wanted.append(parameters[0].tolist())
    path, longest, _ = cliff.descend(error_surface.STEPS, clip)
    np.testing.assert_allclose(path[: updates + 1], wanted, rtol=1e-9)
    assert len(path) == error_surface.UPDATES + 1
    assert longest >= max(norms) * (1 - 1e-9)


def test_what_is_said_of_the_descent_follows_the_clipping():
    said = {clip: cliff.descent(20, clip)["headline"]["en"] for clip in (None, 0.5, 5.0)}
    assert "throws the weights out" in said[None]
    assert said[0.5].startswith("Clipped at 0.5: gradients of norm up to 42.4,")
    assert "still throws the weights out" in said[5.0]
    assert "clipping does nothing" in cliff.descent(5, 5.0)["headline"]["en"]
    table = cliff.surface(20)
    assert len(table["error"]) == len(table["w"]) * len(table["b"])
    assert table["error"][1] == pytest.approx(cliff.error_and_gradient(table["w"][0], table["b"][1], 20)[0])


# --- a run, and names ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stepped():
    """Two steps of a linear network, clipped from the second on, and its answer then."""
    runs = Runs()
    steps = [training(runs, "linear", 1.0, [None]), training(runs, "linear", 1.0, [None, 0.05])]
    yield runs, steps
    runs.close()


def test_a_step_is_what_its_history_makes_it(stepped):
    _, (_, second) = stepped
    anew = Runs()
    assert training(anew, "linear", 1.0, [None, 0.05]) == second
    assert training(anew, "linear", 1.0, [None])["iteration"] == ITERATIONS  # back again
    anew.close()


def test_two_pages_do_not_train_each_others_runs_anew(stepped, monkeypatch):
    runs, steps = stepped
    monkeypatch.setattr(Run, "_train", None)  # nothing of this is trained
    assert [training(runs, "linear", 1.0, clips) for clips in ([None], [None, 0.05])] == steps
    assert len(runs.at("linear", 1.0, [None, 0.05]).clips) == 2


def test_a_step_tells_what_was_recorded(stepped):
    _, (first, second) = stepped
    assert [column["iteration"] for column in first["gradient"] + second["gradient"]] == list(range(0, 20, EVERY))
    assert (first["clipped"], second["clipped"]) == (0, 1)
    assert all(column["values"][0] == 0 for column in second["gradient"])
    assert second["headline"]["en"].endswith("100% of the updates clipped")
    assert second["setting"] == {"en": "linear RNN, gain 1", "zh": "线性 RNN，增益\xa01"}


def test_hidden_states_are_those_of_the_layer(stepped):
    runs, (_, second) = stepped
    run = runs.at("linear", 1.0, [None, 0.05])
    inputs, lengths = run._test.inputs[:64], run._test.lengths[:64]
    with torch.no_grad():
        each = [run.model.recurrent(row[:n].unsqueeze(1))[0] for row, n in zip(inputs, lengths.tolist(), strict=True)]
    last = torch.stack([h[-1, 0] for h in each]).double().square().mean().sqrt().item()
    assert run.states()[0] == pytest.approx(last, rel=1e-5)
    assert len(second["state"][0]["values"]) == int(lengths.max())


def test_the_gradient_of_a_step_is_that_of_autograd():
    run = Run("rnn", 1.0)
    batch = next(run._batches)
    run._batches = iter([batch] * ITERATIONS)
    wanted = _relative_gradient(run, batch)
    told = run.step(None)["gradient"][0]["values"]
    run.close()
    np.testing.assert_allclose(told[: len(wanted)], wanted, atol=2e-5)


def _relative_gradient(run: Run, batch) -> list[float]:
    """log₁₀ of the median over the recorded examples of what comes back, step by step in float64."""
    model = run._asked()
    by_lag: dict[int, list[float]] = {}
    for i in range(0, 64, 2):
        symbols = batch.inputs[i, : int(batch.lengths[i])]
        states, h = [], None
        for symbol in symbols:
            _, h = model.recurrent(symbol.view(1, 1), h)
            h.retain_grad()
            states.append(h)
        torch.nn.functional.cross_entropy(model.read_out(h[0]), batch.targets[i : i + 1]).backward()
        norms = [state.grad.norm().log10().item() for state in states[::-1]]
        for lag, norm in enumerate(norms):
            by_lag.setdefault(lag, []).append(norm - norms[0])
    return [float(np.median(by_lag[lag])) for lag in range(6)]


def test_pushes_of_a_linear_network_sum_to_its_answer(stepped):
    runs, _ = stepped
    table = answer(runs, "linear", 1.0, [None, 0.05], "王晓丽")
    assert [bar["character"] for bar in table["bars"]] == list("王晓丽|王伟|李娜")
    assert [bar["own"] for bar in table["bars"]] == [True] * 3 + [False] * 6
    model = runs.at("linear", 1.0, [None, 0.05])._asked()
    inputs, lengths = runs.at("linear", 1.0, [None, 0.05]).names.encode(["王晓丽|王伟|李娜"])
    with torch.no_grad():
        scores = model(torch.from_numpy(inputs), torch.from_numpy(lengths))[0]
        zeros = model.scores(torch.zeros(9, 1, 501, dtype=torch.float64))[0]
    winner = scores.argmax()
    assert sum(bar["score"] for bar in table["bars"]) == pytest.approx((scores - zeros)[winner].item(), rel=1e-9)
    assert table["probability"] == pytest.approx(scores.softmax(0)[winner].item(), rel=1e-9)


def test_a_name_of_other_characters_is_answered_in_words(stepped):
    runs, _ = stepped
    table = answer(runs, "linear", 1.0, [None, 0.05], "A|")
    assert table["bars"] == []
    assert table["headline"]["en"].startswith("The model does not know A|;")
    unseen = answer(runs, "linear", 1.0, [None, 0.05], "王\u200b")["headline"]["en"]
    assert unseen.startswith("The model does not know \\u200b;")


def test_a_run_that_diverges_says_so():
    run = Run("linear", 2.0)
    with torch.no_grad():
        run.model.read_out.weight.fill_(float("inf"))
    table = run.step(None)
    assert "diverged" in table["headline"]["en"]
    assert run.step(0.05)["iteration"] == table["iteration"]  # it does not go on
    run.close()


# --- settings, texts, the page ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cell": "elman"}, "cell: expected one of rnn, linear, lstm, gru, got 'elman'"),
        ({"cell": "rnn", "start": 7.0}, "start: expected one of 0.4, 0.5"),
        ({"cell": "lstm", "start": 0.6}, "start: expected one of -2.0, -1.5"),
        ({"steps": 1e9}, "steps: expected one of 5, 10"),
        ({"steps": True}, "steps: expected one of 5, 10"),
        ({"clip": 3}, "clip: expected one of 0.05, .* off, got 3"),
        ({"clips": [None] * 201}, "clips: expected at most 200 steps"),
        ({"clips": [7]}, "clips: expected one of 0.05"),
        ({"name": "王" * 13}, "name: expected 1 to 12 characters"),
        ({"name": 3}, "name: expected 1 to 12 characters, got 3"),
        ({"gain": 1}, "values: expected some of cell, start, steps, clip, clips, name, got 'gain'"),
    ],
)
def test_settings_that_the_page_does_not_offer_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        checked(values)


def test_panels_take_their_own_settings_alone():
    panels = Panels()
    with pytest.raises(ValueError, match="panel: expected a known name, got 'flaw'; did you mean flow"):
        panels("flaw", {})
    with pytest.raises(ValueError, match="values: expected steps, clip, got"):
        panels("descent", {"steps": 20})
    with pytest.raises(TypeError, match="values: expected settings by their names"):
        panels("surface", None)
    with pytest.raises(ValueError, match=r"clips: expected one step or more, got \[\]"):
        panels("training", {"cell": "rnn", "start": 1, "clips": []})
    assert panels("descent", {"steps": 20.0, "clip": None})["end"] == pytest.approx(
        cliff.descent(20, None)["end"], rel=1e-5
    )


def test_the_texts_are_the_same_in_both_languages_and_all_are_used():
    english, chinese = own_texts("en"), own_texts("zh")
    assert list(english) == list(chinese)
    for id, text in english.items():
        fields = [{name for _, name, *_ in string.Formatter().parse(words) if name} for words in (text, chinese[id])]
        assert fields[0] == fields[1], id
    wing = files("gradflow.live")
    sources = "".join(file.read_text("utf-8") for file in wing.iterdir() if file.name.endswith(".py"))
    sources += "".join(file.read_text("utf-8") for file in (wing / "templates").iterdir())
    for id in english:
        group, _, name = id.partition(".")
        made = re.search(rf"{group}\.[${{]", sources) or f"'.{name}'" in sources  # as of a kind, or of each chart
        assert made or f"{group}.{name}" in sources, f"{id} is said nowhere"


def test_sliders_stop_where_figures_have_their_starts():
    assert all(setting.default in setting.values for setting in (GAIN, BIAS, STEPS, CLIP))
    assert set(settings.CELL_NAMES) == set(settings.ALL.starts) == set(settings.ALL.trained)
    for cell, starts in settings.ALL.trained.items():
        assert set(starts) <= set(settings.start_of(cell).values)


def test_the_file_has_all_that_it_shows(tmp_path):
    file = write_live(tmp_path / "new" / "live.html", "zh", space=SMALL)
    page = file.read_text("utf-8")
    facts = json.loads(re.search(r'<script id="facts" type="application/json">(.*?)</script>', page)[1])
    packed = re.search(r'<script id="grid" type="text/plain">(.*?)</script>', page)[1]
    grid = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert grid[key("flow", {"cell": "rnn", "start": 0.6, "steps": 20})]["lag"] == list(range(21))
    assert len(grid) == 4 + 2 + 4 + 1 + 1
    assert "1 runs of 10 updates" in page
    assert facts["panels"] == {panel: list(names) for panel, names in SETTINGS.items()}
    assert 'data-language="zh"' in page
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert not re.search(r'(src|href)="(?!data:|#)', markup)
    assert "data-language" not in live_page().partition("<style>")[0]


def test_a_folder_is_no_file_to_write(tmp_path):
    with pytest.raises(SystemExit, match=r"out: expected a file, such as live\.html, got the folder"):
        main(["live", f"out={tmp_path}"])


# --- the server ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address():
    """Of a server at work."""
    app = pytest.importorskip("gradflow.live.app", reason="needs the extra `live`", exc_type=ImportError)
    listening = app.listen(0)
    server = app.server("auto")
    thread = Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


def asked(address: str, body: object, **headers: str) -> tuple[int, str]:
    """Status and text of an answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = Request(f"{address}/numbers", content, {"Content-Type": "application/json", **headers})
    try:
        with urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_server_answers_with_the_page_and_its_numbers(address):
    with urlopen(address) as page:
        assert "connect-src 'self'" in page.headers["Content-Security-Policy"]
        assert page.read().decode() == live_page()
    status, text = asked(address, {"panel": "flow", "values": {"cell": "gru", "start": 2.0, "steps": 10}})
    assert status == 200
    assert json.loads(text)["factor"] == pytest.approx(flow("gru", 2.0, 10)["factor"], rel=1e-5)


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        ({}, {"Host": "evil.example"}, 400, "Invalid host header"),
        ({}, {"Origin": "http://evil.example"}, 422, "origin: expected a page of this server, got http://evil.example"),
        ({}, {"Content-Type": "text/plain"}, 422, "content-type: expected application/json"),
        ([1], {}, 422, "body: expected"),
        ({"panel": "flow"}, {}, 422, "values: expected settings by their names"),
        ({"panel": "x" * 20_000}, {}, 422, "body: expected at most 16,384 bytes"),
        (b"{", {}, 422, "Expecting property name"),
    ],
)
def test_the_server_refuses_what_is_not_from_its_page(address, body, headers, status, message):
    told, text = asked(address, body, **headers)
    assert told == status
    assert message in text


def test_a_port_that_is_taken_or_none_is_said(monkeypatch, capsys):
    app = pytest.importorskip("gradflow.live.app", reason="needs the extra `live`", exc_type=ImportError)
    with app.listen(0) as taken:
        port = taken.getsockname()[1]
        assert taken.getsockname()[0] == "127.0.0.1"
        message = f"port: expected one that is free, another program has {port}; choose another by port={port + 1}"
        with pytest.raises(SystemExit, match=message):
            main(["live", f"port={port}", "open=no"])
    with pytest.raises(SystemExit, match=r"port: expected a whole number from 0 to 65,535, got 70000"):
        main(["live", "port=70000"])
    with pytest.raises(SystemExit, match=r"port: expected a whole number .*, got 'http'"):
        main(["live", "port=http"])


def test_the_browser_is_opened_and_ctrl_c_ends_quietly(monkeypatch, capsys):
    app = pytest.importorskip("gradflow.live.app", reason="needs the extra `live`", exc_type=ImportError)
    opened = []

    class Interrupted:
        def run(self, sockets):
            sockets[0].close()
            raise KeyboardInterrupt

    monkeypatch.setattr(app, "server", lambda lang: Interrupted())
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(command, "_one_thread", lambda: None)
    main(["live", "port=0"])
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/  \(Ctrl-C ends it\)\n", capsys.readouterr().out)
    assert len(opened) == 1


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "gradflow.live.app", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(SystemExit, match=r"expected the extra `live`.*pip install 'gradflow-rnn\[live\]'"):
        main(["live", "open=no"])
