"""Every condition, in the order in which they are told: first those without which the others cannot be believed."""

from gradflow.diagnosis import memory, record

CONDITIONS = (record.PROOF, *memory.CONDITIONS, record.SHORT)
