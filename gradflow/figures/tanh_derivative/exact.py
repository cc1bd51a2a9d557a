"""The table: :func:`gradflow.theory.tanh.tanh_derivative`."""

from gradflow.theory.tanh import tanh_derivative

compute = tanh_derivative
