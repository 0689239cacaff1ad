"""Multi-label land-cover classification on BigEarthNet: archive in, scores and pictures out."""

__version__ = "0.1.0"
