"""Load tests, side by side with peers: ``python -m loadtest NAME [--peer PEER]... [--json FILE] [--plot FILE]``.

Each module of this package is one test, found by its name.  It has ``ABOUT`` (one line), ``add_arguments(parser)``
and ``async def run(bench, args) -> Report``; optionally ``PEERS`` (the peers it can run against) and ``QUICK``
(flags that make it short).  `loadtest.rig` is what they are built from, `loadtest.peers` what they run against.
"""
