"""Scores: predictions of one rank, exact F1, precision, recall and average precision, tuned thresholds."""
