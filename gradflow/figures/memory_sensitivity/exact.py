"""The table: :func:`gradflow.theory.memory.memory_curse`."""

from gradflow.theory.memory import memory_curse

compute = memory_curse
