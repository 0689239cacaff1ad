"""Multi-label land-cover classification on BigEarthNet: archive in, TFRecords, Keras, Horovod, scores and pictures out."""

__version__ = "0.1.0"
