"""Run the benchmarks, or one: `python -m bench [batches|fleet|relay|first_token|late|memory|observed]`."""

import sys
import time

import uvloop

from bench import batches, first_token, fleet, late, machine, memory, observed, relay

MODULES = (relay, first_token, late, memory, batches, fleet, observed)
PARTS = {module.__name__.rpartition(".")[2]: module for module in MODULES}

chosen = sys.argv[1:] or list(PARTS)
if unknown := set(chosen) - PARTS.keys():
    sys.exit(f"There is no {unknown.pop()}. {__doc__}")
print(machine.described())
busyness, begun = machine.Busyness(), time.monotonic()
for name in chosen:
    uvloop.run(PARTS[name].main())
print(f"\n{time.monotonic() - begun:.0f} s; {busyness.since()}")
