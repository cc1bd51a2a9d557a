"""Which calls one recorded iteration is about, and their numbers: those of the last backward pass."""

from collections.abc import Collection

from gradflow.flow.joining import Chain
from gradflow.flow.seen import TRANSFORMED, UNSEEN, Policy, Seen, Since


class LastBackward(Policy[list[tuple[int, Seen | Chain]]]):
    """For the log: of several backward passes the last one counts, and its calls are handed out with their numbers.

    With accumulated gradients that is the last micro-batch.
    """

    only_last, joins, by_name = True, True, True
    method, parameters = "step", "parameters"
    advice = "call recorder.step(...) before optimizer.step()"

    def hand_out(self, since: Since, watched: Collection[str]) -> list[tuple[int, Seen | Chain]]:
        """The calls that the last backward pass reached, in the order in which they ran, each with its number.

        Of an iteration that is not recorded, modules that run a step at a time are there without their steps.

        Raises:
            RuntimeError: if there is none, saying why.
        """
        if since.again:
            raise RuntimeError(
                f"step: module {min(since.again)!r} runs inside torch.utils.checkpoint with use_reentrant=True, which "
                f"hides its forward pass; pass use_reentrant=False"
            )
        calls = since.calls(only_last=self.only_last)
        if not calls and not since.bare:
            raise RuntimeError(_why_nothing(since, watched))
        return [*_numbered(calls), *((0, bare) for bare in since.bare.values())]


def _why_nothing(since: Since, watched: Collection[str]) -> str:
    if not watched:
        return "step: nothing is watched; call it inside the block `with gf.record(...) as recorder:`"
    if since.without == set(watched):
        return (
            f"step: no gradient flows through {', '.join(map(repr, sorted(since.without)))}: every parameter is frozen "
            f"(requires_grad=False) and so is the input; leave something before or in the layer to be trained"
        )
    for names, why in ((since.unseen, UNSEEN), (since.transformed, TRANSFORMED)):
        if names:
            return f"step: there is nothing to record of {', '.join(map(repr, sorted(names)))}: {why}"
    if since.ran and since.leaves:
        return (
            "step: a backward pass ended in .grad, but none of it came through a recurrent layer; have the loss depend "
            "on what the layers give out (a detach, argmax or torch.no_grad lies between), or leave this step out"
        )
    if since.ran:
        return "step: no gradient has arrived at any recurrent layer; call loss.backward() before recorder.step(...)"
    return (
        "step: no recurrent layer of the model ran with gradients since the last step; run the forward pass "
        "inside the `with gf.record(...)` block, outside torch.no_grad (a model that torch.compile compiled before "
        "the block may need torch.compiler.reset() at its start)"
    )


def _numbered(calls: list[Seen | Chain]) -> list[tuple[int, Seen | Chain]]:
    """Places count on over the forward passes of one backward pass, such as those of a Siamese network."""
    numbered: list[tuple[int, Seen | Chain]] = []
    after: dict[str, int] = {}
    first, within = after, None
    parts: dict[int, int] = {}  # of a sequence in several calls -> its number
    for seen in calls:
        if seen.follows is not None and id(seen.follows) in parts:
            parts[id(seen)] = parts[id(seen.follows)]
            numbered.append((parts[id(seen)], seen))
            continue
        if seen.within is not within:
            first, within = dict(after), seen.within
        number = first.get(seen.name, 0) + seen.place if seen.within.whole else after.get(seen.name, 0)
        after[seen.name] = number + 1
        parts[id(seen)] = number
        numbered.append((number, seen))
    return numbered
