"""The diagnosis proved like a medical test: networks made ill on purpose, healthy ones, and the ill ones treated.

    python benchmarks/diagnosis.py [seeds] [condition ...]    # prints, and writes outputs/benchmarks/diagnosis/*.csv

For each condition: networks that have it, by settings chosen for that (`ILL`), and healthy ones (`HEALTHY`), which must
be found well in every respect; then the ill ones trained again with the remedy that the finding names, and examined
again. Counts are of networks, with Wilson's 95 % intervals. What is trained stays in outputs/benchmarks/diagnosis,
and is not trained again: interrupted, it goes on. Five seeds take half an hour on
two busy cores.

Measured with four seeds, of some five (54 healthy networks, 137 ill ones): found are 25 of 25 whose gradient vanishes,
9 of 10 that grow, 13 of 14 that explode, all of the other conditions. One healthy network is called ill: its clipping
at 8 is 0.45 times its mean norm. By its remedy each gets well but 2 of 25 that vanish, tanh RNNs, orthogonal start.
"""

import logging
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import pandas as pd
import torch
from joblib import Parallel, delayed
from torch import nn
from tqdm import tqdm

import gradflow as gf
from gradflow.analysis import wilson_interval
from gradflow.commands.arguments import CONF
from gradflow.commands.sweeping.settings import to_config
from gradflow.diagnosis import Diagnosis
from gradflow.training.loop import train

FOLDER = Path("outputs/benchmarks/diagnosis")
SMALL = "train.iterations=120 train.batch_size=16 train.evaluate_every=120 data.test_size=100 cell.hidden_size=16"
SMALL += " record.every=60 record.examples=16 record.spectrum_every=60 train.lr=1e-3"

HEALTHY = [
    "cell=rnn init=orthogonal data=recall_first data.length=30",
    "cell=rnn init=orthogonal data=recall_first data.length=20 cell.num_layers=2",
    "cell=rnn_relu init=identity data=adding data.length=30 clip=norm clip.threshold=8",
    "cell=lstm init=remember data=adding data.length=30",
    "cell=lstm init=chrono data=recall_first data.length=40 clip=norm clip.threshold=0.5",
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
        "cell=rnn init=orthogonal data=recall_first data.length=20 clip=norm clip.threshold=1e-3",
        "cell=lstm init=remember data=adding data.length=20 clip=norm clip.threshold=1e-3",
    ],
    "clipping_never": [
        "cell=rnn init=orthogonal data=recall_first data.length=20 clip=norm clip.threshold=1e4",
        "cell=lstm init=remember data=adding data.length=20 clip=norm clip.threshold=1e4",
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
    def name(self) -> str:
        """A folder's: what tells it from the others."""
        return ",".join(word for word in self.words if word not in SMALL.split())

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


def diagnosed(network: Network | Script) -> Diagnosis:
    """Trained, now or earlier, and examined."""
    folder = FOLDER / "runs" / network.name
    if not (folder / "status.json").is_file() or gf.open_run(folder).status not in ("finished", "diverged"):
        shutil.rmtree(folder, ignore_errors=True)
        network.train(folder)
    return gf.diagnose(folder)


def examine(condition: str, network: Network | Script) -> list[dict[str, Any]]:
    """A row per finding of a healthy network; of an ill one its own, and what became of it by the remedy."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    logging.disable()
    found = {finding.name: finding for finding in diagnosed(network).findings}
    if not condition:
        return [{"condition": name, "ill": False, **_row(network, finding)} for name, finding in found.items()]
    row = {"condition": condition, "ill": True, **_row(network, found.get(condition))}
    if row["verdict"] == "ill":
        treated = network.treated(row["remedy"])
        after = next(finding for finding in diagnosed(treated).findings if finding.name == condition)
        row |= {"treated": treated.name, "after": after.verdict, "measured_after": after.measured}
    return [row]


def _row(network: Network | Script, finding: Any) -> dict[str, Any]:
    if finding is None:
        return {"network": network.name, "verdict": "absent"}
    told = {"verdict": finding.verdict, "measured": finding.measured, "remedy": finding.config or finding.code}
    return {"network": network.name, **told}


def networks(seeds: int, conditions: list[str]) -> list[tuple[str, Network | Script]]:
    """All with the condition that each was made to have; none: healthy."""
    made: list[tuple[str, Network | Script]] = []
    for seed in range(seeds):
        lines = [("", line) for line in HEALTHY] + [(name, line) for name, own in ILL.items() for line in own]
        made += [(name, Network.of(f"{SMALL} {line} seed={seed}")) for name, line in lines]
        made += [("record_unproved", Script(seed)), ("", Script(seed, 0.0))]
    return [(name, network) for name, network in made if not conditions or name in ("", *conditions)]


def confusion(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per condition: ill ones found, healthy ones left alone, treated ones well, with Wilson's intervals."""
    table = []
    for name, own in rows.groupby("condition", sort=False):
        ill, healthy = own[own["ill"]], own[~own["ill"]]
        treated = ill[ill["verdict"] == "ill"]
        counts = {
            "sensitivity": (int((ill["verdict"] == "ill").sum()), len(ill)),
            "specificity": (int((healthy["verdict"] != "ill").sum()), len(healthy)),
            "well after the remedy": (int((treated["after"] == "healthy").sum()), len(treated)),
        }
        table.append({"condition": name} | {key: _share(*count) for key, count in counts.items()})
    return pd.DataFrame(table).set_index("condition")


def _share(count: int, total: int) -> str:
    if not total:
        return "-"
    low, high = wilson_interval(count / total, total)
    return f"{count}/{total} [{low:.2f}, {high:.2f}]"


def main() -> None:
    """Train what is not there yet, examine, print the table; write it and a row per network."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    made = networks(seeds, sys.argv[2:])
    jobs = Parallel(n_jobs=os.cpu_count(), return_as="generator")(delayed(examine)(*entry) for entry in made)
    rows = pd.DataFrame([row for found in tqdm(jobs, total=len(made), unit="network") for row in found])
    for column in ("after", "treated"):
        rows[column] = rows.get(column)
    table = confusion(rows)
    rows.to_csv(FOLDER / "networks.csv", index=False)
    table.to_csv(FOLDER / "confusion.csv")
    print(table.to_string())
    wrong = rows[(rows["ill"] != (rows["verdict"] == "ill")) | (rows["after"].notna() & (rows["after"] != "healthy"))]
    print(wrong[["condition", "ill", "network", "verdict", "measured", "remedy", "after"]].to_string(index=False))


if __name__ == "__main__":
    main()
