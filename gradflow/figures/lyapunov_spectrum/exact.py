"""The table: :func:`gradflow.theory.lyapunov.lyapunov_gains`."""

from gradflow.theory.lyapunov import lyapunov_gains

compute = lyapunov_gains
