"""Measurements of speed, one module each, as ratios against a limit or a peer in the same run."""

# What `python -m jeoparda_tf.bench NAME` knows, and what each one is about.
NAMES: dict[str, str] = {
    "convert": "the conversion in patches per CPU second, against reading alone and what peers do",
    "input": "the pipeline in patches per CPU second, against reading alone and against int64 lists",
    "step": "training fed by the pipeline, from memory, and as keras.applications has it",
    "scaling": "ranks against one rank, seconds in allreduce, projection to more",
    "startup": "from launch to first step, and what it is spent on",
}
