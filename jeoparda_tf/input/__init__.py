"""From shards to batches: which records, in which order, augmented how."""
