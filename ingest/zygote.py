"""A small process with the parsers loaded, which forks one child per parse: `python -m ingest.zygote FD LIMITS`.

It is single-threaded and parses nothing itself. Over its socket it gets one byte with three descriptors per parse: the
file, the channel (media type in, answer out; the child's alone) and the status pipe, on which it tells how the child
ended. It kills a child's process group when its time is up, or when the sandbox lets go of the status pipe; when the
socket closes it kills all and ends.

One child is always forked ahead and waits: a fork of this process takes milliseconds, handing work over does not.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass

from ingest import parse_child
from ingest.parse_protocol import ParseLimits

_ORPHAN_CHECK_SECONDS = 1.0


@dataclass(slots=True)
class _Parse:
    status: int
    deadline: float
    timed_out: bool = False
    abandoned: bool = False


@dataclass(frozen=True, slots=True)
class _Spare:
    """A child that waits for work on the other end of `work`."""

    pid: int
    work: socket.socket


class Zygote:
    def __init__(self, requests: socket.socket, limits: ParseLimits) -> None:
        self._requests = requests
        self._limits = limits
        self._pid = os.getpid()
        self._parent = os.getppid()
        self._parses: dict[int, _Parse] = {}
        self._poll = select.poll()
        self._poll.register(requests, select.POLLIN)
        self._spare: _Spare | None = None
        self._child_ended = _wake_on_sigchld()
        self._poll.register(self._child_ended, select.POLLIN)

    def serve(self) -> None:
        """Until the sandbox is gone: its socket closed, or, should a fork of it hold that open, its process ended.

        PR_SET_PDEATHSIG is no help here: it follows the *thread* that started this process.
        """
        self._spare = self._fork()
        while os.getppid() == self._parent:
            for descriptor, event in self._poll.poll(self._wait_seconds() * 1000):
                if descriptor == self._requests.fileno():
                    if not self._accept():
                        return
                elif descriptor == self._child_ended:
                    os.read(descriptor, 4096)
                elif event & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                    self._abandon(descriptor)
            self._reap()
            self._kill_late()

    def kill_all(self) -> None:
        for pid in [*self._parses, *([self._spare.pid] if self._spare else [])]:
            _kill_group(pid)

    def _wait_seconds(self) -> float:
        now = time.monotonic()
        running = [parse.deadline for parse in self._parses.values() if not parse.timed_out]
        return max(0.0, min([_ORPHAN_CHECK_SECONDS, *(deadline - now for deadline in running)]))

    def _accept(self) -> bool:
        """Take one request and fork for the next; False when the sandbox has closed its end."""
        message, descriptors, _, _ = socket.recv_fds(self._requests, 1, 3)
        if not message:
            return False
        file, channel, status = descriptors
        pid = self._hand_over(file, channel)
        self._parses[pid] = _Parse(status, time.monotonic() + self._limits.wall_seconds)
        # Nothing is awaited but the error condition of a pipe whose reader has gone.
        self._poll.register(status, 0)
        self._spare = self._fork()
        return True

    def _hand_over(self, file: int, channel: int) -> int:
        """Give both descriptors to the waiting child, or to a new one should that have died; its process id."""
        while True:
            spare = self._spare or self._fork()
            self._spare = None
            with spare.work, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(spare.work, [b"\0"], [file, channel])
                os.close(file)
                os.close(channel)
                return spare.pid

    def _fork(self) -> _Spare:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            parse_child.run(theirs, self._limits, zygote=self._pid)
        theirs.close()
        return _Spare(pid, ours)

    def _reap(self) -> None:
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            # Whatever the child started goes too, while the id of its group is still taken.
            _kill_group(pid)
            status = os.waitpid(pid, 0)[1]
            parse = self._parses.pop(pid, None)
            if parse is None:
                # The waiting child. Another is forked with the next request: this one may have died at its start.
                self._forget_spare()
                continue
            if not parse.abandoned:
                self._poll.unregister(parse.status)
            _tell(parse, os.waitstatus_to_exitcode(status))
            os.close(parse.status)

    def _forget_spare(self) -> None:
        if self._spare is not None:
            self._spare.work.close()
            self._spare = None

    def _kill_late(self) -> None:
        now = time.monotonic()
        for pid, parse in self._parses.items():
            if now >= parse.deadline and not parse.timed_out:
                parse.timed_out = True
                _kill_group(pid)

    def _abandon(self, status: int) -> None:
        for pid, parse in self._parses.items():
            if parse.status == status:
                parse.abandoned = True
                _kill_group(pid)
                self._poll.unregister(status)


def _wake_on_sigchld() -> int:
    """A descriptor that becomes readable when a child has ended."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    return reader


def _tell(parse: _Parse, exit_code: int) -> None:
    """`timeout`, `exit N` or `signal N`; nobody may be listening any more."""
    ending = f"signal {-exit_code}" if exit_code < 0 else f"exit {exit_code}"
    with contextlib.suppress(BrokenPipeError):
        os.write(parse.status, b"timeout" if parse.timed_out else ending.encode())


def _kill_group(pid: int) -> None:
    """The child and whatever it started. Until it is reaped its id is its own; its group may not exist yet."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def main() -> None:
    zygote = Zygote(socket.socket(fileno=int(sys.argv[1])), ParseLimits.from_json(sys.argv[2]))
    # What is loaded now is never freed: keeping the collector off it keeps the pages shared with the children.
    gc.collect()
    gc.freeze()
    try:
        zygote.serve()
    finally:
        zygote.kill_all()


if __name__ == "__main__":
    main()
