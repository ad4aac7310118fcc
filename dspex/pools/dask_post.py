"""The post: what goes to a cluster's workers, tasks, notes, and what they see of this process."""

from __future__ import annotations

import json
import logging
import os
import pickle
import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

from dspex.events import WorkerStarted
from dspex.pools import dask_worker, secrets
from dspex.pools.dask_seats import portable

if TYPE_CHECKING:
    from dspex.pools.dask_engine import DaskEngine
    from dspex.pools.dask_seats import DaskSeat, Room
    from dspex.pools.task import Task

_LARGE = 1 << 20
"""Bytes. More are placed at the worker beforehand, as the scheduler keeps what comes with a task."""


class Post:
    """Carries what one engine has for its workers; they answer by its topic."""

    def __init__(self, engine: DaskEngine) -> None:
        self._engine = engine
        self._spec = engine.spec
        self._cluster = engine.cluster
        self.topic = f"dspex-{engine.name}-{uuid.uuid4().hex}"

    def tell(self, room: Room, kind: str, *content: Any) -> None:
        """Send a worker a note, such as ``stop`` with a task's number."""
        self._cluster.note(room.home.address, dask_worker.tell, self.topic, kind, *content)

    def fetch(self, room: Room, *content: Any) -> bytes:
        """Bring what is too large for a message."""
        fetched: bytes = self._cluster.tell(
            room.home.address, dask_worker.tell, self.topic, "fetch", *content
        )
        return fetched

    def leave(self, room: Room) -> None:
        """Tell a worker that this was all."""
        self._cluster.note(room.home.address, dask_worker.leave, self.topic)

    # ── on the client's own thread, one step after the other ────────────────────────────────────

    async def send(self, seat: DaskSeat, task: Task) -> None:
        """Hand a task to dask."""
        room, client, engine = seat.room, self._cluster.client, self._engine
        options = {"workers": [room.home.address]}
        try:
            await self.greet(room)
            data: Any = task.arguments.data
            if len(data) > _LARGE:
                (data,) = await client.scatter([data], hash=False, asynchronous=True, **options)
            if task.stop_reason is not None or seat.task is not task:
                room.do(partial(engine.unposted, seat, task, None))
                return
            with engine.lock:
                task.started_at = time.monotonic()
                engine.rouse()
            seat.future = client.submit(
                dask_worker.run,
                self._order(room, task),
                data,
                key=f"{self.topic}-{task.number}-{uuid.uuid4().hex[:8]}",
                allow_other_workers=False,
                pure=False,
                priority=task.priority,
                resources={"GPU": 1} if self._spec.device == "gpu" and room.home.gpus else None,
                **options,
            )
            seat.future.add_done_callback(partial(engine.on_end, seat, task))
        except Exception as error:  # noqa: BLE001  # the worker may have gone meanwhile
            room.do(partial(engine.unposted, seat, task, error))

    async def greet(self, room: Room) -> None:
        """Make the worker ours, and have it see this process's environment."""
        client, engine, workers = self._cluster.client, self._engine, [room.home.address]
        environment = self._environment()
        async with room.door:
            if room.guest is None:
                level = logging.getLogger().getEffectiveLevel()
                joined = await client.run(
                    dask_worker.join, self.topic, level, workers=workers, asynchronous=True
                )
                room.guest, room.pid = joined[room.home.address]
                engine.counters.started += 1
                room.do(partial(engine.publish, WorkerStarted(engine.name, room.name, room.pid)))
            if environment != room.environment:
                await client.run(dask_worker.see, environment, workers=workers, asynchronous=True)
                room.environment = environment

    def _order(self, room: Room, task: Task) -> bytes:
        session = task.session
        given = None
        if session is not None:
            is_known = session.key in room.sessions
            given = (session.key, None if is_known else session.shipped_factory(again=session.lost > 0))
        order = dask_worker.DaskOrder(
            self.topic,
            room.guest or "",
            task.number,
            task.function.digest,
            task.function.data,
            given,
            task.correlation,
            task.stream is not None,
            self._spec.max_result_mib << 20,
        )
        return pickle.dumps(tuple(order))

    def _environment(self) -> str:
        """Write down what workers should see of this process's environment: all but what is the machine's."""
        hook = self._spec.environment
        seen = {**hook(), **secrets.environment()} if hook is not None else portable(os.environ)
        return json.dumps({**seen, **self._spec.env})
