"""Training: the loop, its state, the step, validation and checks."""
