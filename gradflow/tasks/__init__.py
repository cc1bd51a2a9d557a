"""What a network is asked, its answers and chance, and the long-range problems of the literature. No torch.

Of a problem everything stands in its file in `problems/`: what is drawn, chance, criterion, limits and label.
"""

from gradflow.tasks.dataset import Dataset, Sequences
from gradflow.tasks.problem import Problem, problem, problem_names
from gradflow.tasks.task import Success, Task, constant_chance

__all__ = ["Dataset", "Problem", "Sequences", "Success", "Task", "constant_chance", "problem", "problem_names"]
