"""Networks, and weights of other projects."""
