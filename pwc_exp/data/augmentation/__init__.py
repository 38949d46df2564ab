"""Random changes of training examples, exact in flow and honest about what is known."""
