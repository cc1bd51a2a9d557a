"""The diagnosis proved like a medical test: networks made ill on purpose, healthy ones, and the ill ones treated.

    python benchmarks/diagnosis.py [seed ...] [condition ...]

It prints counts, and writes them to benchmarks/diagnosis.csv unless conditions are named, and a row per network to
outputs/benchmarks/diagnosis/networks.csv.

For each condition: networks that have it (`ILL`), and healthy ones (`HEALTHY`), which must be found well in every
respect; then the ill ones trained again with the remedy that the finding names, and examined again; `besides` has
what they are then told that they were not before. Counts are of networks, with Wilson's 95 % intervals.

Which network is ill is settled by numbers that no verdict enters, before it is examined:

- thresholds of clipping (`2x`) are multiples of the median gradient norm of the same network trained without clipping;
  what works lies between 0.5 and 10 (Pascanu et al. 2013, sec. 3.2): 1 and 2 are well, 0.05 and 100 ill;
- an explosion did harm if the highest loss is over `HARM` times that of the same network at a tenth of the learning
  rate, or none; a network meant to explode that did not is left out, and counted; one that is treated is well if it is
  found well and did no such harm, either;
- all others are ill by their settings, or well by them: an orthogonal tanh RNN over 13 steps, since a step costs its
  gradient a factor of 0.57 at worst (`ORTHOGONAL_FACTOR` of gradflow/diagnosis/remedies.py).

Thresholds and remedies were chosen with seeds below 30 (`TUNED`); what counts are the others. What is trained stays in
outputs/benchmarks/diagnosis, and is not trained again: interrupted, it goes on.
"""

import logging
import math
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from joblib import Parallel, delayed
from torch import nn
from tqdm import tqdm

import gradflow as gf
from gradflow.analysis import wilson_interval
from gradflow.commands.arguments import CONF
from gradflow.commands.sweeping.settings import to_config
from gradflow.diagnosis.conditions import CONDITIONS
from gradflow.runlog import Run
from gradflow.training.loop import train

FOLDER = Path("outputs/benchmarks/diagnosis")
TABLE = Path(__file__).with_suffix(".csv")
TUNED = 29
"""The last seed that thresholds and remedies were chosen with."""
SEEDS, MORE = range(30, 40), range(40, 50)
FEW = ("record_unproved", "units_dead", "log_too_short")
"""Conditions with one ill network per seed, of which there are more seeds."""
HARM = 2.0  # times the highest loss of the same network at a tenth of the rate
SMALL = "train.iterations=120 train.batch_size=16 train.evaluate_every=120 data.test_size=100 cell.hidden_size=16"
SMALL += " record.every=60 record.examples=16 record.spectrum_every=60 train.lr=1e-3"

HEALTHY = [
    "cell=rnn init=orthogonal data=recall_first data.length=13",
    "cell=rnn init=orthogonal data=recall_first data.length=13 cell.num_layers=2",
    "cell=rnn_relu init=identity data=adding data.length=30 clip=norm clip.threshold=2x",
    "cell=lstm init=remember data=adding data.length=30",
    "cell=lstm init=chrono data=recall_first data.length=40 clip=norm clip.threshold=1x",
    "cell=lstm init=remember data=recall_first data.length=20 cell.bidirectional=true",
    "cell=gru init=remember data=temporal_order data.length=30",
    "cell=gru_before init=remember data=delayed_xor data.length=20 train.lr=1e-2",
    "cell=rnn init=default data=generated data.train_size=500",
    "cell=linear init=orthogonal data=recall_first data.length=30",
]
ILL = {
    "gradient_vanishes": [
        "cell=rnn init=default data=recall_first data.length=40",
        "cell=rnn init=gaussian init.gain=0.5 data=adding data.length=20",
        "cell=lstm init=default data=adding data.length=40",
        "cell=gru init=default data=temporal_order data.length=40",
        "cell=rnn_sigmoid init=default data=recall_first data.length=20",
    ],
    "gradient_grows": [
        "cell=linear init=orthogonal init.gain=1.5 data=recall_first data.length=30 train.lr=1e-4",
        "cell=rnn_relu init=identity init.gain=1.5 data=adding data.length=30 train.lr=1e-4",
    ],
    "truncated_short": [
        "cell=rnn init=orthogonal data=recall_first data.length=20 train.truncate=5",
        "cell=lstm init=remember data=adding data.length=30 train.truncate=10",
    ],
    "lower_layers_starved": [
        "cell=rnn init=normal init.std=0.001 cell.num_layers=3 data=recall_first data.length=10 "
        "train.optimizer=sgd train.lr=0.01",
        "cell=lstm init=normal init.std=0.001 cell.num_layers=3 data=recall_first data.length=10 "
        "train.optimizer=sgd train.lr=0.01",
    ],
    "explosions": [
        "cell=linear init=orthogonal data=recall_first data.length=20 train.optimizer=sgd train.lr=0.1",
        "cell=linear init=orthogonal data=recall_first data.length=20 train.lr=0.02",
        "cell=rnn_relu init=identity data=recall_first data.length=20 train.optimizer=sgd train.lr=0.1",
    ],
    "non_finite": [
        "cell=linear init=orthogonal init.gain=1.5 data=adding data.length=30 train.optimizer=sgd train.lr=1",
        "cell=rnn_relu init=identity init.gain=1.5 data=adding data.length=30 train.optimizer=sgd train.lr=1",
    ],
    "clipping_always": [
        "cell=rnn init=orthogonal data=recall_first data.length=20 clip=norm clip.threshold=0.05x",
        "cell=lstm init=remember data=adding data.length=20 clip=norm clip.threshold=0.05x",
    ],
    "clipping_never": [
        "cell=rnn init=orthogonal data=recall_first data.length=20 clip=norm clip.threshold=100x",
        "cell=lstm init=remember data=adding data.length=20 clip=norm clip.threshold=100x",
    ],
    "units_saturated": [
        "cell=rnn init=gaussian init.gain=30 data=recall_first data.length=20",
        "cell=rnn init=default data=recall_first data.length=20 train.lr=1",
    ],
    "units_dead": ["cell=rnn_relu init=identity data=adding data.length=30 train.lr=0.03"],
    "gates_cannot_hold": [
        "cell=lstm init=forget_bias init.forget_bias=-3 data=adding data.length=30",
        "cell=gru init=update_bias init.update_bias=-3 data=recall_first data.length=20",
    ],
    "gates_stuck_open": [
        "cell=lstm init=forget_bias init.forget_bias=12 data=adding data.length=20",
        "cell=gru init=update_bias init.update_bias=12 data=recall_first data.length=20",
    ],
    "spectrum_drift": [
        "cell=rnn init=orthogonal data=recall_first data.length=20 train.lr=0.3",
        "cell=lstm init=remember data=adding data.length=20 train.lr=0.3",
    ],
    "log_too_short": ["cell=rnn init=orthogonal data=recall_first data.length=20 train.iterations=20"],
}


@dataclass(frozen=True)
class Network:
    """One network to train: overrides by key, as on the command line."""

    overrides: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, text: str) -> "Network":
        """Out of a line of overrides; the last of each key counts."""
        return cls(tuple(dict(word.split("=", 1) for word in text.split()).items()))

    def treated(self, remedy: str) -> "Network":
        """With a remedy; a choice of a group takes the place of all that was set in it."""
        changes = dict(word.split("=", 1) for word in remedy.split())
        kept = {key: value for key, value in self.overrides if not {key, key.split(".")[0]} & set(changes)}
        return Network(tuple((kept | changes).items()))

    @property
    def words(self) -> list[str]:
        """As on the command line, choices of groups first."""
        return [f"{key}={value}" for key, value in sorted(self.overrides, key=lambda entry: "." in entry[0])]

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(dict(self.overrides)["seed"])

    @property
    def name(self) -> str:
        """A folder's: what tells it from the others."""
        return ",".join(word for word in self.words if word not in SMALL.split())

    @property
    def settled(self) -> "Network":
        """With the threshold of clipping as a number, out of the norms without."""
        values = dict(self.overrides)
        if not values.get("clip.threshold", "").endswith("x"):
            return self
        bare = Network(tuple((key, value) for key, value in self.overrides if key.split(".")[0] != "clip"))
        norm = np.exp(trained(bare).frame("scalars")["log_grad_norm_after"].median())
        return self.treated(f"clip=norm clip.threshold={float(values['clip.threshold'][:-1]) * norm:.3g}")

    def has(self, condition: str) -> bool:
        """Whether it is as ill as it was meant to be, where its settings alone do not say."""
        return condition != "explosions" or self.harmed(self)

    def harmed(self, treated: "Network") -> bool:
        """Whether an explosion did harm in it, as it is or treated."""
        slow = self.treated(f"train.lr={float(dict(self.overrides)['train.lr']) / 10:g}")
        highest = [_highest_loss(trained(one)) for one in (treated, slow)]
        return highest[0] > HARM * highest[1]

    def train(self, folder: Path) -> None:
        """Train it as the command does."""
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            config = to_config(hydra.compose("config", self.words))
        train(config, folder, progress=False)


@dataclass(frozen=True)
class Script:
    """A script of one's own whose penalty on W_hh is no gradient of states, so that its record cannot be proved."""

    seed: int
    penalty: float = 0.1

    @property
    def settled(self) -> "Script":
        """It is."""
        return self

    def has(self, condition: str) -> bool:
        """Whether it has the penalty."""
        return self.penalty > 0

    def treated(self, remedy: str) -> "Script":
        """Without the penalty."""
        return Script(self.seed, 0.0)

    @property
    def name(self) -> str:
        """A folder's."""
        return f"script,penalty={self.penalty},seed={self.seed}"

    def train(self, folder: Path) -> None:
        """120 updates of a layer of eight units."""
        torch.manual_seed(self.seed)
        layer = nn.RNN(3, 8)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
        with gf.record(layer, folder, every=60, spectrum_every=60) as recorder:
            for _ in range(120):
                optimizer.zero_grad()
                loss = layer(torch.randn(10, 8, 3))[0][-1].square().mean()
                (loss + self.penalty * layer.weight_hh_l0.square().sum()).backward()
                recorder.step(loss)
                optimizer.step()


def trained(network: Network | Script) -> Run:
    """Trained, now or earlier, to its end."""
    folder = FOLDER / "runs" / network.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "status.json").is_file() or gf.open_run(folder).status not in ("finished", "diverged"):
            shutil.rmtree(folder, ignore_errors=True)
            network.train(folder)
    return gf.open_run(folder)


def _highest_loss(run: Run) -> float:
    losses = run.frame("scalars")["loss"].to_numpy()
    return float(losses.max()) if np.isfinite(losses).all() else math.inf


def examine(condition: str, network: Network | Script) -> list[dict[str, Any]]:
    """A row per finding of a healthy network; of an ill one its own, and what became of it by the remedy."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    logging.disable()
    network = network.settled
    if condition and not network.has(condition):
        return [{"condition": condition, "ill": None, "seed": network.seed, "network": network.name}]
    found = {finding.name: finding for finding in gf.diagnose(trained(network)).findings}
    if not condition:
        return [{"condition": name, "ill": False, **_row(network, finding)} for name, finding in found.items()]
    row = {"condition": condition, "ill": True, **_row(network, found.get(condition))}
    if row["verdict"] == "ill":
        treated = network.treated(row["remedy"])
        told = gf.diagnose(trained(treated))
        after = next((one for one in told.findings if one.name == condition), None)
        row |= {"treated": treated.name, "after": after.verdict if after else "healthy"}
        row |= {"measured_after": after.measured if after else math.nan}
        known = {name for name, one in found.items() if one.verdict == "ill"} | {condition}
        row["besides"] = " ".join(one.name for one in told.ill if one.name not in known)
        if condition == "explosions" and isinstance(network, Network) and network.harmed(treated):
            row["after"] = "harmed"  # clipped norms do not explode, the loss may all the same
    return [row]


def _row(network: Network | Script, finding: Any) -> dict[str, Any]:
    if finding is None:
        return {"seed": network.seed, "network": network.name, "verdict": "absent"}
    told = {"verdict": finding.verdict, "measured": finding.measured, "remedy": finding.config or finding.code}
    return {"seed": network.seed, "network": network.name, **told}


def networks(seeds: Iterable[int], conditions: Sequence[str]) -> list[tuple[str, Network | Script]]:
    """All with the condition that each was made to have; none: healthy."""
    made: list[tuple[str, Network | Script]] = []
    for seed in seeds:
        lines = [("", line) for line in HEALTHY] + [(name, line) for name, own in ILL.items() for line in own]
        made += [(name, Network.of(f"{SMALL} {line} seed={seed}")) for name, line in lines]
        made += [("record_unproved", Script(seed)), ("", Script(seed, 0.0))]
    return [(name, network) for name, network in made if not conditions or name in ("", *conditions)]


def confusion(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per condition and kind of seeds: ill ones found, healthy ones left alone, treated ones well.

    Returns:
        Columns seeds (tuned, fresh), condition, then counts: ill, found, healthy, left_alone, treated, well, left_out.
    """
    table = []
    kind = np.where(rows["seed"] <= TUNED, "tuned", "fresh")
    order = {condition.name: place for place, condition in enumerate(CONDITIONS)}
    for (seeds, name), own in rows.groupby([kind, "condition"], sort=False):
        ill, healthy = own[own["ill"].eq(True)], own[own["ill"].eq(False)]
        treated = ill[ill["verdict"] == "ill"]
        counts = {"ill": len(ill), "found": len(treated), "healthy": len(healthy)}
        counts |= {"left_alone": int((healthy["verdict"] != "ill").sum()), "treated": len(treated)}
        counts |= {"well": int((treated["after"] == "healthy").sum()), "left_out": int(own["ill"].isna().sum())}
        table.append({"seeds": seeds, "condition": name, **counts})
    return pd.DataFrame(table).sort_values(
        ["seeds", "condition"], key=lambda column: column.map(order | {"tuned": 0, "fresh": 1}), ignore_index=True
    )


def in_words(table: pd.DataFrame) -> pd.DataFrame:
    """Shares with Wilson's intervals."""
    pairs = {"sensitivity": ("found", "ill"), "specificity": ("left_alone", "healthy"), "well": ("well", "treated")}
    shares = {
        name: [_share(count, total) for count, total in zip(table[part], table[whole], strict=True)]
        for name, (part, whole) in pairs.items()
    }
    return table[["seeds", "condition"]].assign(**shares, left_out=table["left_out"])


def _share(count: int, total: int) -> str:
    if not total:
        return "-"
    low, high = wilson_interval(count / total, total)
    return f"{count}/{total} [{low:.2f}, {high:.2f}]"


def main() -> None:
    """Train what is not there yet, examine, print the table; write it and a row per network."""
    seeds = [int(word) for word in sys.argv[1:] if word.isdigit()]
    conditions = [word for word in sys.argv[1:] if not word.isdigit()]
    made = networks(seeds or SEEDS, conditions)
    if not seeds:
        made += [entry for entry in networks(MORE, FEW) if entry[0] and (not conditions or entry[0] in conditions)]
    jobs = Parallel(n_jobs=os.cpu_count(), return_as="generator")(delayed(examine)(*entry) for entry in made)
    rows = pd.DataFrame([row for found in tqdm(jobs, total=len(made), unit="network") for row in found])
    for column in ("after", "treated", "besides"):
        rows[column] = rows.get(column)
    rows.to_csv(FOLDER / "networks.csv", index=False)
    table = confusion(rows)
    if not conditions:
        table.to_csv(TABLE, index=False)
    print(in_words(table).to_string(index=False))
    wrong = rows["ill"].notna() & (rows["ill"].eq(True) != (rows["verdict"] == "ill"))
    wrong |= rows["ill"].isna() | (rows["after"].notna() & (rows["after"] != "healthy"))
    wrong |= rows["besides"].fillna("").ne("")
    told = ["condition", "ill", "network", "verdict", "measured", "remedy", "after", "besides"]
    print(rows[wrong][told].to_string(index=False))


if __name__ == "__main__":
    main()
