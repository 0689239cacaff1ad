"""Archive to shards.

A conversion goes from file to file in this order:

    run.py        the steps of one conversion
    gather.py     archives that are compressed: one pass, into spill files
    select.py     which patches, in which split, what is left out and why
    plan.py       their order, and the shards
    output.py     what is in OUT already: start, continue, done
    lock.py       who converts there now
    tasks.py      the share of one task of an array
    engine.py     executors: worker processes, MPI's ranks
    shard.py      one worker converts one shard
    finish.py     table, manifest

and what --dry-run tells beforehand:

    lookahead.py  the beginnings of archives that are compressed
    preview.py    the plan, and a sample's time
"""
