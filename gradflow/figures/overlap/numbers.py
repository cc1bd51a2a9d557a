"""What an overlap of the test set with the training set does to the accuracy."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.runs import claim


def overlap_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That the network that answers new names best answers those it learnt from still better, beyond chance (95 %).

    Args:
        data: What :func:`gradflow.training.prediction.overlap` returned.
    """
    by = data.groupby(["cell", "start", "quantity"], sort=False)
    right = by["value"].mean().unstack()
    if not {"seen", "unseen"} <= set(right) or right["unseen"].isna().all():
        return []
    best = int(right["unseen"].argmax())
    share, count = right.iloc[best], by["count"].sum().unstack().reindex(right.index).iloc[best]
    gap = share["seen"] - share["unseen"]
    margin = 1.96 * float(np.sqrt((share * (1 - share) / count).sum()))
    slide = data["slide"].iloc[0]
    details: dict[str, Any] = {name: f"{100 * share[name]:.1f}" for name in ("seen", "unseen")}
    details |= {"curve": dict(zip(("cell", "start"), right.index[best], strict=True))}
    details |= {"variant": "elsewhere"} if np.isnan(slide) else {"slide": f"{100 * slide:.1f}"}
    return [claim("overlap_flatters", gap, f"> {margin:.2g}", bool(gap > margin), **details)]
