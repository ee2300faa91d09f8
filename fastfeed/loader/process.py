"""A process that runs the Python callables of a loader, and its end in the parent.

The process is spawned, never forked, because its parent has threads. They share nothing: a batch goes over as a pickle
and the result comes back as one. It ends when its pipe closes, so it cannot outlive its parent; an interrupt from the
terminal is the parent's business.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import pickle
import signal
import threading
from typing import Any

from fastfeed.errors import ConfigError, FastfeedError, TransformError
from fastfeed.loader.callables import Callables
from fastfeed.loader.reading import Pulled

# How long an ended process may take to leave before it is killed.
EXIT_WAIT_S = 1.0


class CallableProcess:
    """One process, started at the first batch. `run` is called by one thread; `close` by any."""

    def __init__(self, callables: Callables) -> None:
        try:
            self._payload = pickle.dumps(callables)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ConfigError(f"python_mode='processes' needs callables that pickle: {error}. Define them at the top "
                              "level of a module, or use python_mode='threads'.") from error
        # Held while a batch is over there; close() leaves the pipe alone then. Before _lock.
        self._in_use = threading.Lock()
        self._lock = threading.Lock()  # guards the three below; held while a process starts
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: multiprocessing.connection.Connection[bytes, bytes] | None = None
        self._closed = False

    def run(self, pulled: Pulled) -> Any:
        """Return what the callables make of the batch, or raise what they raised."""
        try:
            with self._in_use:
                connection = self._start()
                connection.send_bytes(pickle.dumps(pulled, protocol=5))
                answer = connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise FastfeedError(f"a process for Python callables is gone ({self._ending()}). If it was killed, it may "
                                "have used too much memory. If it never started, the program's main part is not under "
                                "`if __name__ == '__main__':`, which spawned processes need.") from error
        try:
            succeeded, result = pickle.loads(answer)
        except Exception as error:  # whatever a class of the user's raises; torch's unsigned types do, too
            raise TransformError(f"the result of the Python callables pickles, but does not unpickle: "
                                 f"{type(error).__name__}: {error}. Return something else, or use "
                                 "python_mode='threads'.") from error
        if not succeeded:
            raise result
        return result

    def close(self) -> None:
        """End the process: an idle one leaves by itself when its pipe closes, a busy one is terminated. Idempotent."""
        with self._lock:
            self._closed = True
            process, self._process = self._process, None
        if process is None:
            return
        if self._connection is not None and self._in_use.acquire(blocking=False):
            self._connection.close()
            self._in_use.release()
            process.join(EXIT_WAIT_S)
        if process.is_alive():
            process.terminate()
            process.join(EXIT_WAIT_S)
        if process.is_alive():
            process.kill()
            process.join(EXIT_WAIT_S)

    def _start(self) -> multiprocessing.connection.Connection[bytes, bytes]:
        with self._lock:
            if self._closed:
                raise FastfeedError("the loader was closed while a batch was being made.")
            if self._connection is None:
                context = multiprocessing.get_context("spawn")
                if multiprocessing.current_process().daemon:
                    raise ConfigError("python_mode='processes' does not work inside a worker process of another "
                                      "loader, which may not have children. Use python_mode='threads' there.")
                ours, theirs = context.Pipe()
                self._process = context.Process(target=serve, args=(theirs, self._payload), daemon=True,
                                                name="fastfeed-python")
                self._process.start()
                theirs.close()
                self._connection = ours
            return self._connection

    def _ending(self) -> str:
        process = self._process
        if process is None:
            return "closed"
        process.join(EXIT_WAIT_S)
        return f"exit code {process.exitcode}"


def serve(connection: multiprocessing.connection.Connection[bytes, bytes], payload: bytes) -> None:
    """The process's life: answer every batch with (True, result) or (False, error), until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    callables: Callables = pickle.loads(payload)
    while True:
        try:
            request = connection.recv_bytes()
        except EOFError:
            return
        try:
            connection.send_bytes(_answer(callables, pickle.loads(request)))
        except BrokenPipeError:
            return


def _answer(callables: Callables, pulled: Pulled) -> bytes:
    try:
        return pickle.dumps((True, callables.run(pulled.batch, pulled.key, pulled.present)), protocol=5)
    except FastfeedError as error:
        error.__cause__ = None  # the message has its traceback, and the user's class may not pickle
        return pickle.dumps((False, error), protocol=5)
    except Exception as error:  # the result does not pickle, or a conversion failed
        message = f"the result of the Python callables cannot leave its process: {type(error).__name__}: {error}"
        return pickle.dumps((False, TransformError(message)), protocol=5)
