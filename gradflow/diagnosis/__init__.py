"""From one recorded run to findings: what is wrong with its gradients, by which number, and what to do about it.

Each finding has a measured number, the threshold it is held against and where that comes from, what it means for the
length of the task, the figure to look at, and the remedy as one line of settings and one of code. What the log does not
tell is `unknown`, with the reason. A condition is a function in one of the files beside this one and a record in its
`CONDITIONS`; all of them stand, worst first, in :mod:`gradflow.diagnosis.conditions`. No torch.
"""

from gradflow.diagnosis.examination import Diagnosis, diagnose
from gradflow.diagnosis.finding import Finding

__all__ = ["Diagnosis", "Finding", "diagnose"]
