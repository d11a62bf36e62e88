"""Requests that come at the same time share a forward pass."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

__all__ = ["Batcher"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Collects what is waiting and hands it to one function in one thread, again and again.

    While a batch is computed the next one gathers; nothing waits for a batch to fill.

    Args:
        function: Results of a batch, in its order.
        max_batch: Most items of a batch.
    """

    def __init__(self, function: Callable[[Sequence[Item]], Sequence[Result]], *, max_batch: int) -> None:
        self._function = function
        self._max_batch = max_batch
        self._waiting: asyncio.Queue[tuple[Item, asyncio.Future[Result]]] = asyncio.Queue()
        self.batches = 0
        self.items = 0

    async def __call__(self, item: Item) -> Result:
        """The result of one item.

        Raises:
            Exception: whatever the function raised for this item, alone or in its batch.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((item, future))
        return await future

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answers items meanwhile."""
        with ThreadPoolExecutor(1, "batches") as thread:
            task = asyncio.create_task(self._run(thread))
            try:
                yield
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _run(self, thread: ThreadPoolExecutor) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._max_batch and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            # Who has stopped waiting needs no answer.
            batch = [(item, future) for item, future in batch if not future.done()]
            if batch:
                await self._answer(thread, batch)

    async def _answer(
        self, thread: ThreadPoolExecutor, batch: Sequence[tuple[Item, asyncio.Future[Result]]]
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(thread, self._function, [item for item, _ in batch])
        except Exception as error:
            if len(batch) > 1:  # find out whose fault it is
                for one in batch:
                    await self._answer(thread, [one])
            elif not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        self.batches += 1
        self.items += len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
