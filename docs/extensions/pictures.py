"""The pictures of the figures' pages: a few small networks trained for them, then the slides of the lecture's deck.

    python docs/extensions/pictures.py docs/_build/pictures

Networks are kept beside the pictures until the code that trains them changes, pictures until any code does.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CODE = ROOT / "gradflow"
DRAWS = ("figures", "analysis", "commands/deck.py")
"""What no training depends on."""

SMALLER = {
    "networks": ["experiment=lecture", "seed=0", "data.names_per_sequence=8,2", "train.iterations=150"],
    "architectures": ["experiment=lecture_architectures", "train.iterations=100"],
    "clipping": ["experiment=lecture_clipping", "seed=0", "train.iterations=200"],
    "names": ["experiment=lecture_names", "seed=0", "train.iterations=150"],
    "gru": ["experiment=lecture_gru", "train.iterations=100"],
}
"""The lecture's parts with fewer seeds, lengths and updates: settings of `train` by the folder of the part."""

NAME, NAMES = "王晓丽", ("王晓丽", "李建国", "张伟", "刘芳")


def digest(files: Iterable[Path]) -> str:
    """One number for the contents of some files."""
    together = hashlib.sha256()
    for file in sorted(files):
        together.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return together.hexdigest()[:16]


def sources() -> list[Path]:
    """All that a picture depends on."""
    code = [path for path in CODE.rglob("*") if path.suffix in (".py", ".yaml", ".gz", ".mplstyle")]
    return [*code, *(ROOT / "conf").rglob("*.yaml"), Path(__file__)]


def trained(folder: Path) -> Path:
    """The networks, trained unless they are there."""
    drawing = tuple(f"gradflow/{part}" for part in DRAWS)
    runs = folder / f"runs-{digest(path for path in sources() if not str(path.relative_to(ROOT)).startswith(drawing))}"
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(train, [runs / part for part in SMALLER]))
    return runs


def train(part: Path) -> None:
    """One part, by the command, unless it is there."""
    done = part.with_suffix(".done")
    if done.is_file():
        return
    settings = [*SMALLER[part.name], "launcher=local", f"hydra.sweep.dir='{part}'"]
    command = [sys.executable, "-m", "gradflow.commands.train", *settings]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{ended.stdout[-3000:]}{ended.stderr[-3000:]}")
    done.touch()


def draw(job: tuple[str, str, Path, Path]) -> None:
    """One picture, and beside it what it claims, as JSON: name, sentence, measured, expected, holds."""
    figure, about, runs, out = job
    import matplotlib as mpl

    mpl.use("agg")
    from gradflow.commands.deck import deck
    from gradflow.figures import make
    from gradflow.figures.catalogue import Labels

    [slide] = [s for s in deck(NAME, NAMES) if (s.figure, s.about) == (figure, about)]
    made = make(slide.how, slide.table(runs), runs=slide.runs(runs), context="notebook")
    made.figure.savefig(out / f"{slide.title}.png", dpi=110)
    checks = [as_row(claim, Labels("en")) for claim in made.claims]
    (out / f"{slide.title}.json").write_text(json.dumps(checks, ensure_ascii=False), encoding="utf-8")


def as_row(claim: dict[str, Any], labels: Any) -> dict[str, str]:
    """A checked claim in words."""
    told = claim.get("told", claim["value"])
    try:
        sentence = claim.get("what") or labels.claim(claim)
    except KeyError:
        sentence = claim["claim"].replace("_", " ")
    measured = f"{told:.6g}" if isinstance(told, float) else str(told)
    return {
        "claim": claim["claim"],
        "sentence": sentence,
        "measured": measured,
        "expected": str(claim["expected"]),
        "holds": "yes" if claim["holds"] else "no",
    }


def drawn(folder: Path) -> Path:
    """All pictures, drawn unless they are there."""
    from gradflow.commands.deck import deck

    out = folder / f"drawn-{digest(sources())}"
    slides = [slide for slide in deck(NAME, NAMES) if not slide.moves]
    wanted = [slide for slide in slides if not (out / f"{slide.title}.json").is_file()]
    wanted.sort(key=lambda slide: slide.figure != "lyapunov_spectrum")  # which takes longest
    if wanted:
        out.mkdir(parents=True, exist_ok=True)
        runs = trained(folder)
        with ProcessPoolExecutor(2) as pool:
            list(pool.map(draw, [(slide.figure, slide.about, runs, out) for slide in wanted]))
    return out


if __name__ == "__main__":
    print(drawn(Path(sys.argv[1]).absolute()))
