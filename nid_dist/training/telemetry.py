"""Where a step's time goes and what it sends, by phase, over all ranks."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float64
from torch import Tensor

from nid_dist.device import EventTimer
from nid_dist.parallel.exchange.exchange import Traffic
from nid_dist.parallel.world import World

PHASES = ("data", "codes", "forward", "backward", "step", "graph")


class StepClock:
    """Adds up seconds per phase, and the exchange's traffic, over the steps since the last `reset`.

    Phases: `data` (signals are read), `codes` (solved, or batch statistics found), `forward` (gate, exchange, f, loss),
    `backward` (the exchange's way back included) and `step` (reduction of gradients, clipping, optimiser); `graph` is
    all of these but the data, where they are replayed as one. The time spent waiting for messages, by kind, is part of
    these. What is sent between steps (evaluation, checkpoints) does not count.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.reset()

    def reset(self) -> None:
        """Start anew."""
        # Signals are read by the host; all else is the device's work, which the host is far ahead of.
        self._timers = {name: EventTimer(None if name == "data" else self._world.device) for name in PHASES}
        self._traffic = Traffic()
        self._steps = 0

    @contextmanager
    def step(self) -> Iterator[None]:
        """What happens inside is a step."""
        exchange = self._world.exchange
        outside, exchange.traffic = exchange.traffic, self._traffic
        yield
        exchange.traffic = outside
        self._steps += 1

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what happens inside to a phase of the step."""
        self._timers[name].start()
        yield
        self._timers[name].stop()

    def facts(self) -> dict[str, float]:
        """Means per step, over all ranks: `ms/PHASE`, `ms/wait_KIND`, `kB/KIND`; to be called on all ranks."""
        steps = max(1, self._steps)
        facts = {f"ms/{name}": 1e3 * timer.seconds() / steps for name, timer in self._timers.items()}
        facts |= {f"ms/wait_{kind}": 1e3 * seconds / steps for kind, seconds in sorted(self._traffic.seconds.items())}
        facts |= {f"kB/{kind}": sent / 1e3 / steps for kind, sent in sorted(self._traffic.bytes.items())}
        mean = self._world.agree(torch.tensor(list(facts.values()), dtype=torch.float64))
        return dict(zip(facts, mean.tolist(), strict=True))

    def working_ms(self) -> Float64[Tensor, "ranks"]:
        """Milliseconds per step of each rank without waiting for messages: what a slow rank shows; called on all."""
        own = (
            1e3
            * (sum(timer.seconds() for timer in self._timers.values()) - sum(self._traffic.seconds.values()))
            / max(1, self._steps)
        )
        return self._world.all_gather(torch.tensor(own, dtype=torch.float64))
