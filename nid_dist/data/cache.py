"""Decoded images kept in memory, the least recently used dropped first."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np


class ImageCache:
    """A thread-safe map from keys to arrays whose total size is bounded.

    Threads that ask for the same absent key share one load; loads of different keys run side by side. An array larger
    than the bound is handed out but not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._loading: dict[int, Future[np.ndarray]] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def __contains__(self, key: int) -> bool:
        """Whether the array of a key is kept now."""
        with self._lock:
            return key in self._kept

    def get(self, key: int, load: Callable[[], np.ndarray]) -> np.ndarray:
        """The array of a key, read-only since all callers share it, loaded if it is not kept.

        Errors of the loading reach every caller that waited for it and are not kept.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            future = self._loading.get(key)
            mine = future is None
            if future is None:
                future = self._loading[key] = Future()
        if mine:
            self._load(key, load, future)
        return future.result()

    def _load(self, key: int, load: Callable[[], np.ndarray], future: "Future[np.ndarray]") -> None:
        try:
            array = load()
            array.flags.writeable = False
        except BaseException as error:
            with self._lock:
                del self._loading[key]
            future.set_exception(error)
            return
        with self._lock:
            del self._loading[key]
            self._keep(key, array)
        future.set_result(array)

    def _keep(self, key: int, array: np.ndarray) -> None:
        if array.nbytes > self.max_bytes:
            return
        self._kept[key] = array
        self._bytes += array.nbytes
        while self._bytes > self.max_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes
