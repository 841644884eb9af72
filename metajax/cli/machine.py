"""Which devices and processes compute a run: no part of what the run is."""

import os
import socket
import sys
from dataclasses import dataclass
from typing import NoReturn

import jax

from metajax.checks import check_count
from metajax.errors import InputError
from metajax.experiments.interrupt import interrupted_at_once
from metajax.training.launchers import from_environment

AUTO = "auto"
STOPPED = (130, 143)  # statuses after a signal


@dataclass(frozen=True)
class Machine:
    """The devices, and the processes, that share each meta-batch."""

    devices: int | None = None
    """Number of devices per process; all by default. Each core of a CPU is a device."""
    coordinator: str | None = None
    """Address of the first of several processes, HOST:PORT; or auto, to take it from
    SLURM, MPI, Kubernetes, a TPU pod, or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
    JAX_PROCESS_ID. Start all processes with the same flags, except --process."""
    processes: int | None = None
    """Total number of processes, with --coordinator HOST:PORT."""
    process: int | None = None
    """Index of this process, from 0, with --coordinator HOST:PORT."""

    def start(self) -> None:
        """Sets JAX up, before it computes anything.

        Raises:
          InputError: if a flag is missing or out of range, there are too few devices,
            the other processes cannot be reached, or JAX does not start.
        """
        if self.devices is not None:
            check_count("--devices", self.devices, least=1)
        self._check_processes()
        if self.devices is not None:
            _make_cpu_devices(min(self.devices, _most_cpu_devices()))
        if self.coordinator is not None:
            self._meet(self.coordinator)
        count = _count_devices()
        if self.devices is not None and self.devices > count:
            raise InputError(
                f"--devices must be at most the number of devices here, {count}, got "
                f"{self.devices}"
            )

    def start_alone(self) -> None:
        """Sets JAX up for what one process does.

        Raises:
          InputError: see `start`; and if there are to be several.
        """
        self.check_alone()
        self.start()

    def check_alone(self) -> None:
        """Refuses several processes.

        Raises:
          InputError: if there are to be several.
        """
        if self.coordinator is not None:
            raise InputError(
                "--coordinator is for metajax train; leave it out, and start this once"
            )

    @property
    def shared(self) -> int | None:
        """For `fit`: how many devices share the tasks; None for all there are."""
        return self.devices if jax.process_count() == 1 else None

    def _check_processes(self) -> None:
        numbers = {"--processes": self.processes, "--process": self.process}
        given = [name for name, value in numbers.items() if value is not None]
        if self.coordinator in (None, AUTO):
            if given:
                raise InputError(
                    f"{given[0]} needs --coordinator HOST:PORT, got "
                    f"{self.coordinator or 'none'}"
                )
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise InputError(
                "--coordinator must be HOST:PORT, the first process's, or auto, got "
                f"{self.coordinator!r}"
            )
        if self.processes is None or self.process is None:
            raise InputError(
                "--coordinator needs --processes, how many there are, and --process, "
                "which one this is, from 0"
            )
        check_count("--processes", self.processes, least=1)
        check_count("--process", self.process, least=0)
        if self.process >= self.processes:
            raise InputError(
                f"--process must be below --processes, {self.processes}, got "
                f"{self.process}"
            )

    def _meet(self, coordinator: str) -> None:
        ids = None if self.devices is None else list(range(self.devices))
        who = "the other processes" if self.processes is None else self.processes
        auto = from_environment() if coordinator == AUTO else {}
        print(f"waiting for {who} at {coordinator}", file=sys.stderr)
        try:
            with interrupted_at_once():
                if coordinator == AUTO:
                    jax.distributed.initialize(local_device_ids=ids, **auto)
                else:
                    jax.distributed.initialize(
                        coordinator, self.processes, self.process, local_device_ids=ids
                    )
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"the processes did not meet at {coordinator} "
                f"({str(error).splitlines()[0]}); start all of them, with the same "
                "--coordinator and --processes"
            ) from error


def _count_devices() -> int:
    """How many devices JAX has here, which it starts with this.

    Raises:
      InputError: if it cannot.
    """
    try:
        return jax.local_device_count()
    except (RuntimeError, AssertionError) as error:
        platforms: str = jax.config.jax_platforms or "any platform"  # pyright: ignore
        reason = f" ({str(error).splitlines()[0]})" if str(error) else ""
        raise InputError(
            f"JAX does not start on {platforms}{reason}; {_advice()}"
        ) from error


def _advice() -> str:
    """What to do where JAX does not start."""
    if not jax.distributed.is_initialized():
        return "set JAX_PLATFORMS=cpu, or install JAX for it, such as jax[cuda13]"
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except (OSError, UnicodeError):
        return (
            f"processes on CPUs meet by the name of the machine, {name}, which has no "
            "address: put it into /etc/hosts"
        )
    return "start all processes again, and see what the first that failed says"


def several() -> bool:
    """Whether this is one of several processes."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def end_now(status: int) -> NoReturn:
    """Ends the process, without what the interpreter does at its end.

    A computation may still be running, under which that crashes; and of several
    processes, one that failed would wait minutes for the others, which wait for it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if status in STOPPED and several():  # all of them end
        jax.distributed.shutdown()
    os._exit(status)


def a_device_for_each_core() -> None:
    """On a CPU, unless the environment says otherwise.

    Tasks shared by devices keep the cores busier than threads inside an operation do.
    """
    if "JAX_NUM_CPU_DEVICES" in os.environ or _flagged():
        return
    _make_cpu_devices(_cores())


def _make_cpu_devices(count: int) -> None:
    if _flagged():  # JAX takes one or the other
        return
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # JAX has started, with what it has
        return
    # Work that the devices hand to a pool whose threads they all hold is kept, with
    # what it needs, until the program ends: 8 GiB in an hour's meta-step.
    os.environ.setdefault("NPROC", str(max(count, _cores()) + 1))


def _most_cpu_devices() -> int:
    """How many devices a CPU has: its cores, or as the environment says."""
    configured: int = jax.config.jax_num_cpu_devices  # pyright: ignore (of a flag)
    return configured if configured > 0 else _cores()


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    return cores or os.cpu_count() or 1


def _flagged() -> bool:
    return "device_count" in os.environ.get("XLA_FLAGS", "")
