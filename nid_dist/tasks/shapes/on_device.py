"""A step's points of shapes, made on a device from what it keeps of the shapes and from numbers drawn on the CPU.

As the sources and `augmentation` make them, of all shapes of a batch at once.
"""

from collections.abc import Sequence
from typing import Any

import torch

from nid_dist.device import to_device
from nid_dist.tasks.shapes.draws import PreparedDraw, ProceduralDraw, Sizes
from nid_dist.tasks.shapes.prepared import PreparedShapes
from nid_dist.tasks.shapes.prepared_on_device import PreparedOnDevice
from nid_dist.tasks.shapes.procedural_on_device import ProceduralOnDevice
from nid_dist.tasks.shapes.sending import Points
from nid_dist.tasks.shapes.signals import BothShapes, ProceduralShapes, ShapeSource

Drawn = PreparedDraw | ProceduralDraw


class ShapesOnDevice:
    """The points of a source's shapes, on a device that has room for what they are made from."""

    def __init__(self, source: ShapeSource, sizes: Sizes, *, changed: bool) -> None:
        self._source, self._refused = source, set[torch.device]()
        both = (source.prepared, source.procedural) if isinstance(source, BothShapes) else (source,)
        self._makers: list[tuple[type[Drawn], Any]] = []
        for each in both:
            if isinstance(each, PreparedShapes):
                self._makers.append((PreparedDraw, PreparedOnDevice(each, sizes, changed=changed)))
            elif isinstance(each, ProceduralShapes):
                self._makers.append((ProceduralDraw, ProceduralOnDevice(each, sizes)))

    def has_room(self, device: torch.device) -> bool:
        """Whether points can be made on a device, as far as is known."""
        return device.type != "cpu" and device not in self._refused

    def points(self, shapes: Sequence[int], drawn: Sequence[Drawn], device: torch.device) -> Points | None:
        """The points of shapes, by what was drawn for each; None: there is no room to make them."""
        found: list[Points] = []
        order: list[int] = []
        for kind, maker in self._makers:
            places = [place for place, each in enumerate(drawn) if isinstance(each, kind)]
            if not places:
                continue
            own = [self._place(shapes[place]) for place in places]
            made = maker.points(own, [drawn[place] for place in places], device)
            if made is None:
                self._refused.add(device)
                return None
            # In double precision where they are computed, as on the CPU.
            found.append((made[0].float(), made[1].float(), None if made[2] is None else made[2].float()))
            order += places
        if len(found) == 1:
            return found[0]
        back = to_device(torch.tensor(order).argsort(), device)
        (coords, distances, cloud), (others, their_distances, their_cloud) = found
        clouds = None if cloud is None or their_cloud is None else torch.cat([cloud, their_cloud])[back]
        return torch.cat([coords, others])[back], torch.cat([distances, their_distances])[back], clouds

    def _place(self, shape: int) -> int:
        return self._source.of(shape)[1] if isinstance(self._source, BothShapes) else shape
