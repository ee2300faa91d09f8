"""Turning what people have into shards.

A *source* (source.py) scans its input into a plan: a schema and an ordered list of items. The plan is cut
into shards (plan.py) by sizes alone, an engine (engine_local.py) writes the shards with as many processes
as it is given, and the job (job.py) commits them once, at the end. So the result is a function of the input
and the shard size, whatever the number of workers, and an interrupted conversion commits nothing.
"""
