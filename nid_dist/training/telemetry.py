"""Where a step's time goes and what it sends, by phase, over all ranks."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from nid_dist.parallel.world import World

PHASES = ("data", "codes", "forward", "backward", "step")


class StepClock:
    """Adds up seconds per phase, and reads the exchange's traffic, since the last `reset`.

    Phases: `data` (signals are read), `codes` (solved, or batch statistics found), `forward` (gate, exchange, f, loss),
    `backward` (the exchange's way back and the reduction of gradients included) and `step` (clipping, optimiser). The
    time spent waiting for messages, by kind, is part of these.

    Args:
        world: whose exchange is read.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.reset()

    def reset(self) -> None:
        """Start anew."""
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._steps = 0
        self._world.exchange.traffic.reset()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what happens inside to a phase."""
        begin = time.perf_counter()
        yield
        self._seconds[name] += time.perf_counter() - begin

    def count_step(self) -> None:
        """A step has ended."""
        self._steps += 1

    def facts(self) -> dict[str, float]:
        """Means per step, over all ranks: `ms/PHASE`, `ms/wait_KIND`, `kB/KIND`; to be called on all ranks."""
        traffic, steps = self._world.exchange.traffic, max(1, self._steps)
        names = {f"ms/{name}": 1e3 * seconds / steps for name, seconds in self._seconds.items()}
        names |= {f"ms/wait_{kind}": 1e3 * seconds / steps for kind, seconds in sorted(traffic.seconds.items())}
        names |= {f"kB/{kind}": sent / 1e3 / steps for kind, sent in sorted(traffic.bytes.items())}
        mean = self._world.mean(torch.tensor(list(names.values()), dtype=torch.float64))
        return dict(zip(names, mean.tolist(), strict=True))

    def step_ms(self) -> Tensor:
        """Milliseconds per step without waiting for messages, by rank: what a slow rank shows; called on all ranks."""
        waited = sum(self._world.exchange.traffic.seconds.values())
        own = 1e3 * (sum(self._seconds.values()) - waited) / max(1, self._steps)
        return self._world.collect(torch.tensor(own, dtype=torch.float64))
