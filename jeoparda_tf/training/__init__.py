"""Training on one process or many: the loop, what it calls at its ends, and what it writes."""
