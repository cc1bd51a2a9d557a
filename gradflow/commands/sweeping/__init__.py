"""What only sweeps need: the sweeper in Hydra's place, launchers, a run's job, standing, Ctrl-C."""
