"""Every condition, in the order in which they are told: first those without which the others cannot be believed."""

from gradflow.diagnosis import memory, record, units, updates

CONDITIONS = (
    record.PROOF,
    updates.NON_FINITE,
    *memory.CONDITIONS,
    *updates.CONDITIONS,
    *units.CONDITIONS,
    record.SHORT,
)
