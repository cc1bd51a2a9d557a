"""The table: :func:`gradflow.theory.chain.chain_of_jacobians`."""

from gradflow.theory.chain import chain_of_jacobians

compute = chain_of_jacobians
