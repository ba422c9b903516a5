"""A small process with the parsers loaded, which forks one child per parse: `python -m ingest.zygote FD LIMITS`.

It is single-threaded and parses nothing itself. Where the system lets it, it leaves the network behind before anything
is parsed. Over its socket it says by one byte that it is ready, and gets one byte with three descriptors per parse: the
file, the channel (media type in, answer out; the child's alone) and the status pipe, on which it tells how the child
ended. It kills a child's process group when its time is up, or when the sandbox lets go of the status pipe; when the
socket closes it kills all and ends.

A child that offers itself for another parse (see `ingest.parse_child`) waits for one; else one is forked.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ingest import parse_child
from ingest.parse_protocol import LOADED_OCR, READS_PICTURE, READY, READY_WITHOUT_NETWORK, ParseLimits
from ingest.parsers import ocr

_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024
_ORPHAN_CHECK_SECONDS = 1.0
_MOST_WAITING = 4
_SESSION_NICENESS = "5"
_STEPPED_BACK_NICENESS = 10
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(slots=True)
class _Parse:
    status: int
    steps_back_at: float
    deadline: float
    over_at: float
    stepped_back: bool = False
    timed_out: bool = False
    abandoned: bool = False


class Zygote:
    def __init__(self, requests: socket.socket, limits: ParseLimits) -> None:
        self._requests = requests
        self._limits = limits
        self._pid = os.getpid()
        self._parent = os.getppid()
        self._idle_bytes = _resident_bytes()
        self._parses: dict[int, _Parse] = {}
        self._poll = select.poll()
        self._poll.register(requests, select.POLLIN)
        self._children: dict[int, socket.socket] = {}
        """Every living child, and where it is handed work."""
        self._waiting: list[int] = []
        self._child_ended = _wake_on_sigchld()
        self._poll.register(self._child_ended, select.POLLIN)

    def tell_ready(self, *, has_network: bool) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._requests.send(READY if has_network else READY_WITHOUT_NETWORK)

    def serve(self) -> None:
        """Until the sandbox is gone: its socket closed, or, should a fork of it hold that open, its process ended.

        PR_SET_PDEATHSIG is no help here: it follows the *thread* that started this process.
        """
        while os.getppid() == self._parent:
            ready = {descriptor for descriptor, _ in self._poll.poll(self._wait_seconds() * 1000)}
            offers = {work.fileno() for work in self._children.values()} & ready
            # In this order: a child that has offered itself is not abandoned with the parse it has finished, and a
            # new request, whose descriptors may get numbers just freed, is not mistaken for an old one.
            for work in offers:
                self._finish(work)
            self._abandon(ready - offers)
            if self._child_ended in ready:
                os.read(self._child_ended, 4096)
            if self._requests.fileno() in ready and not self._accept():
                return
            self._reap()
            self._step_back()
            self._kill_late()

    def kill_all(self) -> None:
        for pid in self._children:
            _kill_group(pid)

    def _wait_seconds(self) -> float:
        now = time.monotonic()
        running = [parse for parse in self._parses.values() if not parse.timed_out]
        ends = [parse.deadline if parse.stepped_back else min(parse.steps_back_at, parse.deadline) for parse in running]
        return max(0.0, min([_ORPHAN_CHECK_SECONDS, *(end - now for end in ends)]))

    def _accept(self) -> bool:
        """Take one request; False when the sandbox has closed its end."""
        message, descriptors, _, _ = socket.recv_fds(self._requests, 1, 3)
        if not message:
            return False
        file, channel, status = descriptors
        try:
            pid = self._hand_over(file, channel)
        except OSError as error:
            # The machine has no process for it: no fault of the document's, nor of the parses under way.
            _tell_refusal(status, error)
            for descriptor in descriptors:
                os.close(descriptor)
            return True
        now = time.monotonic()
        self._parses[pid] = _Parse(
            status, now + self._limits.slice_seconds, now + self._limits.wall_seconds, now + self._limits.most_seconds
        )
        # Nothing is awaited but the error condition of a pipe whose reader has gone.
        self._poll.register(status, 0)
        return True

    def _hand_over(self, file: int, channel: int) -> int:
        """Give both descriptors to a waiting child, or to a new one where none waits or lives; its process id."""
        while True:
            pid = self._waiting.pop() if self._waiting else self._fork()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(self._children[pid], [b"\0"], [file, channel])
                os.close(file)
                os.close(channel)
                return pid

    def _fork(self) -> int:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            parse_child.run(theirs, self._limits, zygote=self._pid)
        theirs.close()
        self._children[pid] = ours
        self._poll.register(ours, select.POLLIN)
        return pid

    def _finish(self, work: int) -> None:
        """A child has answered and would take another; its end of `work` may also just have closed with its end."""
        pid = next(pid for pid, ours in self._children.items() if ours.fileno() == work)
        try:
            offered = self._children[pid].recv(1)
        except ConnectionResetError:
            # It ended without having taken what it was handed.
            offered = b""
        if not offered:
            self._poll.unregister(work)
            return
        if offered == LOADED_OCR:
            ocr.load()
            return
        parse = self._parses.get(pid)
        if parse is None or parse.abandoned or parse.timed_out:
            return
        if offered == READS_PICTURE:
            parse.deadline = min(time.monotonic() + self._limits.wall_seconds, parse.over_at)
            return
        del self._parses[pid]
        self._poll.unregister(parse.status)
        os.close(parse.status)
        if parse.stepped_back or len(self._waiting) >= _MOST_WAITING:
            # A priority once lowered is not raised again.
            self._children[pid].shutdown(socket.SHUT_RDWR)
        else:
            self._waiting.append(pid)

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
            _, status, used = os.wait4(pid, 0)
            parse = self._parses.pop(pid, None)
            self._forget(pid)
            if parse is None:
                continue
            if not parse.abandoned:
                self._poll.unregister(parse.status)
            _tell(parse, os.waitstatus_to_exitcode(status), used.ru_maxrss * _MAXRSS_BYTES - self._idle_bytes)
            os.close(parse.status)

    def _forget(self, pid: int) -> None:
        with self._children.pop(pid) as work, contextlib.suppress(KeyError):
            self._poll.unregister(work)
        if pid in self._waiting:
            self._waiting.remove(pid)

    def _step_back(self) -> None:
        now = time.monotonic()
        for pid, parse in self._parses.items():
            if now >= parse.steps_back_at and not parse.stepped_back:
                parse.stepped_back = True
                # It may have ended just now.
                with contextlib.suppress(ProcessLookupError):
                    os.setpriority(os.PRIO_PROCESS, pid, _STEPPED_BACK_NICENESS)

    def _kill_late(self) -> None:
        now = time.monotonic()
        for pid, parse in self._parses.items():
            if now >= parse.deadline and not parse.timed_out:
                parse.timed_out = True
                _kill_group(pid)

    def _abandon(self, let_go: set[int]) -> None:
        """Kill the parses whose status pipe the sandbox has closed."""
        for pid, parse in self._parses.items():
            if parse.status in let_go and not parse.abandoned:
                parse.abandoned = True
                _kill_group(pid)
                self._poll.unregister(parse.status)


def _wake_on_sigchld() -> int:
    """A descriptor that becomes readable when a child has ended."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    return reader


def _resident_bytes() -> int:
    """In memory now; 0 where /proc does not tell. Not getrusage, whose peak may be that of the process before exec."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * resource.getpagesize() if statm.exists() else 0


def _tell_refusal(status: int, error: OSError) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(status, f"refused {error.errno} 0".encode())


def _tell(parse: _Parse, exit_code: int, peak_bytes: int) -> None:
    """`timeout`, `exit` or `signal`, its number, and what memory the child needed at most; nobody may be listening."""
    how = "timeout" if parse.timed_out else "signal" if exit_code < 0 else "exit"
    with contextlib.suppress(BrokenPipeError):
        os.write(parse.status, f"{how} {abs(exit_code)} {peak_bytes}".encode())


def _kill_group(pid: int) -> None:
    """The child and whatever it started. Until it is reaped its id is its own; its group may not exist yet."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _give_way_as_a_session() -> None:
    """See `sched_autogroup_enabled`: where it is on, sessions share the processors by this number."""
    autogroup = Path("/proc/self/autogroup")
    # Where there is none, or it may not be changed just now, each child's own niceness is what is left.
    with contextlib.suppress(OSError):
        if autogroup.exists():
            autogroup.write_text(_SESSION_NICENESS)


def _leave_the_network() -> bool:
    """Whether this process now has a network of its own, with nothing in it: not even the loopback is up.

    Root may do that; others, where user namespaces are on, as root of one: they must have a single thread.
    """
    if _LIBC is None:
        return False
    return any(_LIBC.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET))


def main() -> None:
    _give_way_as_a_session()
    has_network = not _leave_the_network()
    zygote = Zygote(socket.socket(fileno=int(sys.argv[1])), ParseLimits.from_json(sys.argv[2]))
    # What is loaded now is never freed: keeping the collector off it keeps the pages shared with the children.
    gc.collect()
    gc.freeze()
    zygote.tell_ready(has_network=has_network)
    try:
        zygote.serve()
    finally:
        zygote.kill_all()


if __name__ == "__main__":
    main()
