"""An environment of Beam's local runner whose workers come from ``pipeline.workers``.

``multi_processing``, as Beam has it, starts a new interpreter for each worker; here a worker that dies, before it has
answered or after, ends the run with a sentence. Beam waits for the bundles of a stage in their order, so it would hear
of one that failed only when those before it have ended: here a failure answers for all workers.
"""

from __future__ import annotations

import itertools
import signal
import threading
import weakref
from typing import Any

from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.fn_api_runner.worker_handlers import GrpcWorkerHandler, WorkerHandler
from apache_beam.transforms.environments import Environment, python_sdk_capabilities
from google.protobuf import json_format, text_format

from pipeline.workers import Workers

URN = "nightcat:environment:forked:v1"
_SOURCES: weakref.WeakValueDictionary[str, Workers] = weakref.WeakValueDictionary()
_NUMBERS = itertools.count()
GRACE_SECONDS = 5.0  #: A worker that is told to end has nothing to do any more, or what it does is for nothing.


@Environment.register_urn(URN, bytes)  # type: ignore[misc]
class ForkedEnvironment(Environment):  # type: ignore[misc]
    """Workers that one process forks.

    Parameters
    ----------
    name : str
        Of the source in this process.
    """

    def __init__(self, name: str, *args: Any) -> None:
        super().__init__(*(args or (python_sdk_capabilities(), (), None)))
        self.name = name

    @classmethod
    def of(cls, workers: Workers) -> ForkedEnvironment:
        """The environment of a source of workers.

        Parameters
        ----------
        workers : Workers
            Lives in this process, as the runner does.

        Returns
        -------
        ForkedEnvironment
            For ``FnApiRunner``.
        """
        name = str(next(_NUMBERS))
        _SOURCES[name] = workers
        return cls(name)

    def to_runner_api_parameter(self, context: Any) -> tuple[str, bytes]:
        """Give what the proto holds.

        Parameters
        ----------
        context : object
            Not used.

        Returns
        -------
        tuple of str and bytes
            URN and payload.
        """
        return URN, self.name.encode()

    @staticmethod
    def from_runner_api_parameter(payload: bytes, *args: Any) -> ForkedEnvironment:
        """Read it from a proto.

        Parameters
        ----------
        payload : bytes
            From ``to_runner_api_parameter``.
        *args : object
            Capabilities, artifacts, resource hints, context.

        Returns
        -------
        ForkedEnvironment
            The same.
        """
        return ForkedEnvironment(payload.decode(), *args[:3])


@WorkerHandler.register_environment(URN, bytes)  # type: ignore[misc]
class ForkedWorkerHandler(GrpcWorkerHandler):  # type: ignore[misc]
    """What the runner knows of one forked worker, which logs to our standard error.

    Parameters
    ----------
    name : bytes
        Payload of the environment.
    state, provision_info, grpc_server : object
        As Beam hands them to each of its handlers.
    """

    def __init__(self, name: bytes, state: Any, provision_info: Any, grpc_server: Any) -> None:
        super().__init__(state, provision_info, grpc_server)
        self._workers = _SOURCES[name.decode()]
        self._gone, self._stopped, self._killed = threading.Event(), threading.Event(), False
        self._failed = threading.Event()
        connection: Any = self.control_conn
        self._send, connection.push = connection.push, self._push

    def start_worker(self) -> None:
        """Have it forked."""
        options = json_format.MessageToJson(self.provision_info.provision_info.pipeline_options)
        environment = {
            "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(self.control_api_service_descriptor()),
            "PIPELINE_OPTIONS": options,
            "WORKER_ID": self.worker_id,
        }
        self._workers.handlers.add(self)
        self._workers.fork(self.worker_id, environment, self._ended)

    def stop_worker(self) -> None:
        """Wait for its end; it was told to end by the control channel, and one that still works on is killed."""
        self._stopped.set()
        self._workers.handlers.discard(self)
        if not self._gone.wait(GRACE_SECONDS):
            self._killed = True
            self._workers.kill(self.worker_id)
            self._gone.wait()

    def _ended(self, status: int) -> None:
        if status and not self._killed:
            said = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
            want = ", often for want of memory: fewer --workers need less" if status == -signal.SIGKILL else ""
            self._workers.lost.append(f"a worker process has ended by itself: {said}{want}")
            self._fail(self._workers.lost[-1])
        self._gone.set()

    def _push(self, request: Any) -> Any:
        """Send a request; the others hear of it if it is a bundle that fails."""
        future = self._send(request)
        if future is not None and request.WhichOneof("request") == "process_bundle":
            told = future.set

            def tell(response: beam_fn_api_pb2.InstructionResponse) -> None:
                told(response)
                if response.error:
                    for handler in list(self._workers.handlers):
                        handler._fail(response.error)

            future.set = tell
        return future

    def _fail(self, error: str) -> None:
        if not self._failed.is_set():
            self._failed.set()
            threading.Thread(target=self._answer, args=(error,), daemon=True).start()

    def _answer(self, error: str) -> None:
        """Answer for a worker that is gone, or whose work is for nothing, until the runner gives up."""
        while not self._stopped.wait(0.2):
            for number, future in list(self.control_conn._futures_by_id.items()):
                if not future.is_done():
                    future.set(beam_fn_api_pb2.InstructionResponse(instruction_id=number, error=error))
