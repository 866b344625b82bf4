"""A cohort on the workers of a Ray cluster: each holds one network and takes one case after the other.

Cases are handed out here, one at a time, to whichever worker is free, so that nothing queues up on a node. A
worker that is gone, with its node or alone, gives its case back to the queue, and another takes its place as
long as the cluster has room. Only paths and measurements travel: every node sees the same folders.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from multiorganseg import __version__
from multiorganseg.cli.case import Case
from multiorganseg.cli.cohort import CaseResult, Work, result_folder, run_case
from multiorganseg.cli.progress_bar import cancel_on_interrupt
from multiorganseg.errors import BundleError, DependencyError, MultiOrganSegError, ResourceError
from multiorganseg.offline import import_ray
from multiorganseg.progress import Progress
from multiorganseg.scratch import WORK_PREFIX, clean_up, scratch_folder
from multiorganseg.unforeseen import as_typed
from multiorganseg.volumes.check import VolumeWarning

ATTEMPTS = 3
"""How often a case is begun that takes its worker down or finds no memory."""

WORKER_CPUS = 4
_PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.5
_CONNECT_SECONDS = 10.0
_OBJECT_STORE_BYTES = 100 * 2**20
_TOKEN = "RAY_AUTH_TOKEN"
_TOKENS = {_TOKEN, "RAY_AUTH_TOKEN_PATH"}


@dataclass(frozen=True)
class Cluster:
    """Where workers run.

    Attributes:
        address: HOST:PORT of a Ray cluster; empty for the one that RAY_ADDRESS names, or this machine alone.
        worker_cpus: Processors of a worker; 0 for `WORKER_CPUS`, or one beside a graphics card.
    """

    address: str = ""
    worker_cpus: int = 0


class Worker:
    """Holds a network on a node; what it is asked never raises."""

    def prepare(self, work: Work, version: str, cpus: int) -> MultiOrganSegError | None:
        """Load the network with so many threads; returns why that is not possible here."""
        import SimpleITK as sitk
        import torch

        from multiorganseg.bundles import find_bundle
        from multiorganseg.inference.segment import Segmenter

        try:
            if version != __version__:
                msg = f"A node has MultiOrganSeg {__version__}, not {version}."
                return DependencyError(msg, next_step="Install the same version on every node.")
            torch.set_num_threads(cpus)
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(cpus)
            bundle = find_bundle(work.model)
            if bundle.digest != work.digest:
                msg = f"A node has another {bundle.metadata.name} than this machine."
                return BundleError(
                    msg, next_step="Install the same bundle on every node, or name its folder."
                )
            self._work, self._segmenter = work, Segmenter(bundle, work.options)
        except Exception as error:
            return as_typed(error)
        return None

    def run(self, case: Case) -> CaseResult:
        """Segment a case and write its results."""
        return run_case(self._segmenter, self._work, case, Progress())


def run_on_ray(
    work: Work,
    cases: Sequence[Case],
    cluster: Cluster,
    progress: Progress,
    tell: Callable[[CaseResult], None],
) -> list[CaseResult]:
    """Run the cases on all workers for which the cluster has room, and return the results in their order.

    Args:
        work: What to do; its paths are absolute.
        cases: Their paths are absolute and lead to the same files on every node.
        cluster: Where.
        progress: Told how many cases are done; cancelling stops the workers at once.
        tell: Called with each result as it comes.

    Raises:
        DependencyError: Ray is not installed.
        ResourceError: The cluster cannot be reached, or has no room for a worker.
        MultiOrganSegError: No worker can load the network; the error of the first one that tried.
        Cancelled: The user asked for it.
    """
    with _connected(cluster.address) as ray, cancel_on_interrupt(progress.token):
        pool = _Pool(ray, work, cases, cluster.worker_cpus)
        shown = ""
        try:
            while len(pool.results) < len(cases):
                stage = f"segmenting, {len(pool.results)} of {len(cases)} cases, {pool.describe()}"
                if stage != shown or progress.token.cancelled:
                    progress(stage, len(pool.results) / len(cases))
                    shown = stage
                for result in pool.poll():
                    tell(result)
        finally:
            pool.dismiss()
            for folder in {result_folder(case, work) for case in cases}:
                clean_up(folder)
    return [pool.results[number] for number in range(len(cases))]


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Give Ray, connected to a cluster or to one of this machine that ends with the block."""
    try:
        ray = import_ray()
    except ImportError as error:
        msg = "Ray is not installed."
        raise DependencyError(
            msg, cause=str(error), next_step="Install it: pip install 'multiorganseg[ray]'"
        ) from error
    address = address or os.environ.get("RAY_ADDRESS", "")
    place: dict[str, Any] = {"address": address or "local"}
    with ExitStack() as stack:
        if not address:
            # the paths of sockets may not be long
            top = Path("/tmp") if os.name == "posix" else Path(tempfile.gettempdir())
            folder = stack.enter_context(scratch_folder(top, WORK_PREFIX))
            place.update(include_dashboard=False, object_store_memory=_OBJECT_STORE_BYTES)
            place.update(_temp_dir=str(folder), _node_ip_address="127.0.0.1")
            if not _TOKENS & os.environ.keys():  # else Ray keeps a token in the home folder
                os.environ[_TOKEN] = secrets.token_hex(32)
                stack.callback(os.environ.pop, _TOKEN, None)
        stack.callback(ray.shutdown)
        for last in (address != "", False, True):  # a node has 30 s to start, too few on a busy machine
            try:
                _knock(address)
                ray.init(**place, log_to_driver=False, logging_level=logging.ERROR)
                break
            except Exception as error:  # Ray raises all kinds, plain ones among them
                ray.shutdown()
                if last:
                    raise _unreachable(address, error) from error
        yield ray


def _knock(address: str) -> None:
    """Connect once to HOST:PORT: Ray itself tries for minutes where nobody listens."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()


def _unreachable(address: str, error: Exception) -> ResourceError:
    cause = (str(error).strip() or type(error).__name__).splitlines()[0]
    if address:
        msg = f"No Ray cluster answers at {address}."
        step = (
            "Check the address, and that `ray status` works on this machine. Where the cluster asks for a "
            "token, set RAY_AUTH_MODE=token, here as on its nodes."
        )
        return ResourceError(msg, cause=cause, next_step=step)
    msg = "Ray cannot be started here."
    return ResourceError(msg, cause=cause, next_step="Try again, or leave --ray out.")


class _Pool:
    """Hands out cases; `results` holds what became of each, by its number."""

    def __init__(self, ray: Any, work: Work, cases: Sequence[Case], worker_cpus: int) -> None:
        self.results: dict[int, CaseResult] = {}
        self._ray = ray
        self._cases = cases
        self._waiting = deque(range(len(cases)))
        self._attempts = [0] * len(cases)
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._running: dict[Any, tuple[Any, int]] = {}
        self._refused = 0
        self._lost_starts = 0
        self._alive = time.monotonic()
        nodes = self._nodes()
        gpu = work.options.device in ("auto", "cuda") and any(node.get("GPU", 0) >= 1 for node in nodes)
        largest = int(max((node.get("CPU", 0) for node in nodes), default=1))
        cpus = worker_cpus or (1 if gpu else max(1, min(WORKER_CPUS, largest)))
        self._share = {"CPU": cpus, **({"GPU": 1} if gpu else {})}
        self._work = replace(work, options=replace(work.options, device="cuda")) if gpu else work

    def describe(self) -> str:
        """Say how many workers there are."""
        count = len(self._idle) + len(self._running)
        return f"{count} workers" if count > 1 else "1 worker" if count else "waiting for a worker"

    def poll(self) -> list[CaseResult]:
        """Hand out what can be handed out, wait for a moment, and return what is finished."""
        self._hire()
        while self._idle and self._waiting:
            worker, number = self._idle.pop(), self._waiting.popleft()
            self._attempts[number] += 1
            self._running[worker.run.remote(self._cases[number])] = worker, number
        under_way = [*self._starting, *self._running]
        if not under_way:
            time.sleep(_POLL_SECONDS)
            return []
        ready, _ = self._ray.wait(under_way, timeout=_POLL_SECONDS)
        return [result for ref in ready if (result := self._take(ref)) is not None]

    def dismiss(self) -> None:
        """End all workers, whatever they do."""
        for worker in [*self._starting.values(), *self._idle, *(each for each, _ in self._running.values())]:
            self._ray.kill(worker)

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _room(self) -> int:
        return sum(
            min(int(node.get(kind, 0) // share) for kind, share in self._share.items())
            for node in self._nodes()
        )

    def _hire(self) -> None:
        """Start workers where there is room and work for them.

        Raises:
            ResourceError: The cluster has had no room for a while, and nobody works.
        """
        here = len(self._starting) + len(self._idle) + len(self._running)
        room = self._room()
        if room or here:
            self._alive = time.monotonic()
        elif time.monotonic() - self._alive > _PATIENCE_SECONDS:
            wanted = " and ".join(f"{share} {kind}" for kind, share in self._share.items())
            msg = f"No node of the Ray cluster has room for a worker: {wanted}."
            raise ResourceError(
                msg,
                cause="Its nodes are gone or smaller.",
                next_step="See `ray status`; start nodes, or lower --worker-cpus, and repeat the command: "
                "finished cases are skipped.",
            )
        for _ in range(min(room - self._refused, len(self._cases) - len(self.results)) - here):
            kind = self._ray.remote(Worker)
            worker = kind.options(num_cpus=self._share["CPU"], num_gpus=self._share.get("GPU", 0)).remote()
            ready = worker.prepare.remote(self._work, __version__, self._share["CPU"])
            self._starting[ready] = worker

    def _take(self, ref: Any) -> CaseResult | None:
        if ref in self._starting:
            worker = self._starting.pop(ref)
            try:
                error = self._ray.get(ref)
            except self._ray.exceptions.RayError as lost:
                self._ray.kill(worker)
                self._lost_starts += 1
                if self._lost_starts < ATTEMPTS:
                    return None
                error = _gone("A worker cannot start.", lost, "Install MultiOrganSeg on every node.")
            if error is None:
                self._idle.append(worker)
                self._lost_starts = 0
            else:
                self._refuse(worker, error)
            return None
        worker, number = self._running.pop(ref)
        again = self._attempts[number] < ATTEMPTS
        try:
            result: CaseResult = self._ray.get(ref)
            self._idle.append(worker)
        except self._ray.exceptions.RayError as lost:
            self._ray.kill(worker)
            problem = f"The case was begun {ATTEMPTS} times, and each time its worker came to an end."
            memory = "Give each worker more memory: raise --worker-cpus, so that fewer share a node."
            result = CaseResult(self._cases[number].path, 0.0, error=_gone(problem, lost, memory))
        if isinstance(result.error, ResourceError) and again:
            self._waiting.append(number)
            return None
        self.results[number] = result
        return result

    def _refuse(self, worker: Any, error: MultiOrganSegError) -> None:
        """Do without a worker that cannot work.

        Raises:
            MultiOrganSegError: Nobody else works.
        """
        self._ray.kill(worker)
        self._refused += 1
        if not self._starting and not self._idle and not self._running:
            raise error
        warnings.warn(f"A worker cannot be used. {error}", VolumeWarning, stacklevel=2)


def _gone(problem: str, lost: Exception, next_step: str) -> ResourceError:
    said = str(lost).strip() or type(lost).__name__
    return ResourceError(problem, cause=said.splitlines()[0], next_step=next_step)
