"""The training loop of the experiments: its model, its loss, its answers."""
