"""Converts a BigEarthNet archive, extracted or not, into sharded TFRecords with a manifest.

An interrupted conversion is continued by the same command, to the same bytes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Optional

from jeoparda_tf.conversion.config import ConvertConfig
from tfrecords_tools import cli

# Seconds. mpirun, told to stop, kills all ranks one second after it has told them; one that ends by itself with a code
# other than 0 just then can leave mpirun hanging (seen with Open MPI 4.1).
_GRACE = 3.0


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Parses the command line, converts, prints what came out."""
    config = cli.parse(ConvertConfig, "python -m jeoparda_tf.convert", __doc__, argv)
    from jeoparda_tf.conversion.run import convert
    from jeoparda_tf.conversion.summary import print_preview, print_summary

    if config.dry_run:
        from jeoparda_tf.conversion.preview import preview

        print_preview(preview(config), config)
        return 0
    try:
        outcome = convert(config)
    except KeyboardInterrupt as stop:
        how = str(stop) or "the same command continues with the shards that are missing"
        print(f"\nstopped; {how}", file=sys.stderr, flush=True)
        if config.executor == "mpi":
            time.sleep(_GRACE)
        return 130
    print_summary(outcome, config)
    return 0


if __name__ == "__main__":
    cli.run(main)
