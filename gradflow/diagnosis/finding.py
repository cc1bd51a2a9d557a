"""One finding of a diagnosis."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gradflow.diagnosis.words import sentence

Verdict = Literal["ill", "healthy", "unknown"]


@dataclass(frozen=True)
class Finding:
    """What was found of one condition, in the place where it is worst.

    Attributes:
        name: Of the condition, such as "gradient_vanishes".
        verdict: "ill", "healthy" or "unknown".
        where: Module, layer and direction as in torch's names of parameters ("encoder/l1_reverse"), as far as the run
            has several; empty: there is one place, or it is about the whole run.
        measured: The number; NaN where it is unknown.
        unit: Of `measured` and `threshold`; "1" if they have none.
        threshold: What it is held against; NaN if unknown.
        figure: Name of the figure to look at; empty: none.
        config: The remedy as settings for the command line; empty where there is nothing to mend, or no setting for it.
        code: The remedy as a line of Python; empty where there is nothing to mend.
        values: The numbers and names in its sentences.
        reason: Id of the sentence that says why it is unknown; empty where it is known.
    """

    name: str
    verdict: Verdict
    where: str
    measured: float
    unit: str
    threshold: float
    figure: str
    config: str = ""
    code: str = ""
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    reason: str = ""

    def title(self, lang: str = "en") -> str:
        """The name of the condition in words."""
        return sentence(lang, f"{self.name}.title", {})

    def headline(self, lang: str = "en") -> str:
        """What was found, with the measured number and its threshold."""
        if self.verdict == "unknown":
            return sentence(lang, "unknown.headline", {"title": self.title(lang)})
        return self._sentence(lang, "headline")

    def meaning(self, lang: str = "en") -> str:
        """What that means for the task, and whether it lies beyond the record; of what is unknown, why it is."""
        if self.verdict == "unknown":
            return sentence(lang, f"reason.{self.reason}", self._values)
        beyond = sentence(lang, f"{self.name}.beyond", self._values) if "recorded" in self.values else ""
        return (" " if lang == "en" else "").join(filter(None, (self._sentence(lang, "meaning"), beyond)))

    def advice(self, lang: str = "en") -> str:
        """What to do; empty for what is healthy. Of what is unknown: what would make it known."""
        if self.verdict == "unknown":
            return sentence(lang, f"record.{self.reason}", self._values)
        return self._sentence(lang, "advice") if self.verdict == "ill" else ""

    def source(self, lang: str = "en") -> str:
        """Where the threshold comes from: paper and equation."""
        return sentence(lang, f"{self.name}.source", {})

    @property
    def _values(self) -> dict[str, Any]:
        own = {"measured": self.measured, "threshold": self.threshold, "where": self.where}
        return own | {"config": self.config, "code": self.code} | dict(self.values)

    def _sentence(self, lang: str, part: str) -> str:
        variant = self.values.get("variant", "")
        return sentence(lang, f"{self.name}.{self.verdict}{variant and '_' + variant}.{part}", self._values)
