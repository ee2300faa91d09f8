"""Turning what people have into shards.

A *source* (source.py) scans its input into a plan: a schema and an ordered list of items. The plan is cut into tasks
(plan.py) by sizes alone, an engine (engine_local.py) writes them (task.py) with as many threads or processes as it is
given, and the job (job.py) commits all shards once, at the end. So the result is a function of the input and the
shard size, whatever the number of workers; an interrupted conversion commits nothing, and a later run goes on with
what it has finished (unfinished.py).
"""
