"""Sharded TFRecords with a manifest: write, read, check, show, count, divide. Knows nothing of BigEarthNet."""
