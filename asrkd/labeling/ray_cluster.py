"""The Ray backend: the units of a store labeled by actors of a cluster."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from asrkd.errors import AsrkdError, ConfigError
from asrkd.extras import import_optional
from asrkd.labeling.crew import ALONE, Crew
from asrkd.labeling.teacher_identity import check_teacher
from asrkd.labeling.worker import Labeler, UnitResult
from asrkd.store import Store

# How often a unit may be lost with its worker before it is taken for the cause.
_MAX_LOSSES = 3
# Units that a worker is given at a time, so that it never waits for the driver between two.
_CHUNK = 8
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Resources:
    """What Ray reserves for a worker, its readers included.

    Attributes:
        cpus: cores.
        gpus: GPUs; a share of one lets several workers use it.
    """

    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.cpus < 0 or self.gpus < 0 or not self.cpus + self.gpus > 0:
            raise ConfigError(
                f"a worker of {self.cpus} CPUs and {self.gpus} GPUs cannot be; give it at least one of them"
            )


@dataclass(frozen=True)
class RayCluster:
    """Actors of a Ray cluster; every node must reach the store, the audio and the teacher.

    Actors that the cluster has no room for wait, which makes its autoscaler add nodes; they are given up once there is nothing left
    for them. The units of an actor that is lost, with its node or alone, go to others. A driver that was killed is run again: Ray ends
    its actors, finished units are kept.

    Attributes:
        store: planned before, under a path or URI that is the same on every node.
        crew: of each actor; `workers` is the most actors.
        address: of the cluster; None starts one on this machine, or uses the one that this process is connected to.
        resources: of each actor.
    """

    store: Store
    crew: Crew = ALONE
    address: str | None = None
    resources: Resources = Resources()  # noqa: RUF009  (frozen)

    def label(self, units: Sequence[int]) -> Generator[UnitResult, None, None]:
        """As `Backend.label`.

        Raises:
            DependencyError: Ray is not installed.
            ConfigError: a new local cluster has less than one worker's resources.
            AsrkdError: a unit was lost with its worker time and again.
        """
        ray = _ray()
        connected = ray.is_initialized()
        if not connected:
            local = None if self.address else False
            ray.init(address=self.address, include_dashboard=local, logging_level=logging.WARNING)
        try:
            if self.address is None and not connected:
                _check_room(ray.cluster_resources(), self.resources)
            check_teacher(self.store)  # so that a wrong teacher is told before actors are started
            pool = _Pool(self.store, units, self.crew, self.resources)
            try:
                while pool.busy:
                    yield from pool.step()
            finally:
                pool.close()
        finally:
            if not connected:
                ray.shutdown()


class _Worker:
    """An actor: one labeler."""

    def __init__(self, store: Store, crew: Crew, number: int) -> None:
        self._arguments = (crew, store, number)
        self._labeler: Labeler | None = None

    def ready(self) -> None:
        """Load the teacher. Not in `__init__`, whose errors Ray reports as a death."""
        torch.set_num_threads(1)
        crew, store, number = self._arguments
        self._labeler = crew.labeler(store, number)

    def label(self, units: list[int]) -> Iterator[UnitResult]:
        """Results, each when its unit is finished."""
        if self._labeler is None:
            raise RuntimeError("the worker was not made ready")
        yield from self._labeler.label(units)


class _Pool:
    """Actors that start, wait for work, or work, and the units that are left."""

    def __init__(self, store: Store, units: Sequence[int], crew: Crew, resources: Resources) -> None:
        self._ray = _ray()
        actor = self._ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus)(_Worker)
        self._make = lambda number: actor.remote(store, crew, number)
        self._most, self._started = crew.workers, 0
        self._todo = deque(units)
        self._losses: Counter[int] = Counter()
        self._starting: dict[Any, Any] = {}  # answer of `ready` -> actor
        self._working: dict[Any, tuple[Any, deque[int]]] = {}  # stream of results -> actor, its units that are left
        self._fill()

    @property
    def busy(self) -> bool:
        """Whether there are units left, or in work."""
        return bool(self._todo or self._working)

    def step(self) -> Iterator[UnitResult]:
        """Wait for something to happen, and see to it."""
        ready, _ = self._ray.wait([*self._starting, *self._working], num_returns=1, timeout=_POLL_SECONDS)
        for one in ready:
            if one in self._starting:
                self._began(one)
            else:
                yield from self._heard(one)
        self._fill()

    def close(self) -> None:
        """End every actor."""
        for actor in [*self._starting.values(), *(actor for actor, _ in self._working.values())]:
            self._ray.kill(actor)
        self._starting, self._working = {}, {}

    def _fill(self) -> None:
        while len(self._starting) + len(self._working) < min(self._most, len(self._working) + len(self._todo)):
            actor = self._make(self._started)
            self._started += 1
            self._starting[actor.ready.remote()] = actor
        while self._starting and not self._todo:  # too late to be of use
            self._ray.kill(self._starting.popitem()[1])

    def _began(self, answer: Any) -> None:
        actor = self._starting.pop(answer)
        try:
            self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:
            raise _cause(error) from None
        except self._ray.exceptions.RayActorError as error:
            self._lost(None, str(error))
            return
        self._give(actor)

    def _heard(self, stream: Any) -> Iterator[UnitResult]:
        actor, left = self._working[stream]
        try:
            result = self._ray.get(next(stream))
        except StopIteration:
            del self._working[stream]
            self._todo.extendleft(left)  # none, unless a unit had no result
            self._give(actor)
            return
        except self._ray.exceptions.RayTaskError as error:
            raise _cause(error) from None
        except self._ray.exceptions.RayError as error:
            del self._working[stream]
            self._todo.extendleft(reversed(left))
            self._lost(left[0] if left else None, str(error))
            return
        left.remove(result.unit)
        yield result

    def _give(self, actor: Any) -> None:
        if not self._todo:
            self._ray.kill(actor)
            return
        # Small enough that at the end all have something to do.
        size = max(1, min(_CHUNK, len(self._todo) // (2 * self._most)))
        units = [self._todo.popleft() for _ in range(size)]
        self._working[actor.label.remote(units)] = (actor, deque(units))

    def _lost(self, unit: int | None, reason: str) -> None:
        """An actor is gone, while it worked on `unit` or before it had one."""
        key = -1 if unit is None else unit
        self._losses[key] += 1
        if self._losses[key] >= _MAX_LOSSES:
            what = "the start of a worker" if unit is None else f"unit {unit}"
            raise AsrkdError(
                f"{what} failed {_MAX_LOSSES} times with its worker, so it is likely to be the cause; finished units are kept. Give workers "
                f"more memory, or look at Ray's logs. The last: {' '.join(reason.split())}"
            )


def _cause(error: Any) -> Exception:
    """The worker's own error, where it was one of ours."""
    cause = error.cause
    return cause if isinstance(cause, AsrkdError) else error


def _check_room(found: dict[str, float], wanted: Resources) -> None:
    for name, count in (("CPU", wanted.cpus), ("GPU", wanted.gpus)):
        if count > found.get(name, 0.0):
            raise ConfigError(
                f"a worker wants {count:g} {name}s, but this machine gives Ray {found.get(name, 0.0):g}, so none would ever start; name a "
                "cluster with --address, or ask for less"
            )


def _ray() -> Any:
    return import_optional("ray", "the Ray backend needs Ray")
