"""The operator ∂s_t/∂s_{t-1} for all positions and examples: its forms and their leading singular values."""
