"""Rows C that the host answers for: signals while the daemon starts, and the shortage of processes, threads, descriptors."""

import contextlib
import os
import signal
import socket
import subprocess
import time

from accounting import row
from broker_fixture import PATIENCE, wait_until
from faultpoint import FROM
import harness
from host import HostTest

STEPS = 40  # delays from 0 to 10 ms


class Early(HostTest):
    BLOCKED = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP

    def launch(self, number, delay, blocked):
        """Starts a daemon, and sends it a signal so many seconds later. `blocked`: as if it had been there from the
        first instruction, which a signal cannot hit before its program is there."""
        daemon = self.daemon(self.settings([self.work()]))
        signal.pthread_sigmask(signal.SIG_BLOCK, self.BLOCKED)
        try:
            with open(daemon.path("log"), "wb") as log:
                daemon.process = subprocess.Popen(
                    [harness.WARREND, "-c", daemon.config], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    env={**os.environ, harness.MARK: daemon.mark}, start_new_session=True,
                    preexec_fn=None if blocked else self.unblock)
            until = time.monotonic() + delay
            while time.monotonic() < until:
                pass
            daemon.kill(number)
        finally:
            self.unblock()
        return daemon

    def unblock(self):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self.BLOCKED)

    def ended(self, daemon):
        code = daemon.wait()
        wait_until(lambda: not daemon.processes(), "no process is left", 10)
        return code

    @row("C12")
    def test_C12(self):
        """A signal (TERM, INT, QUIT, HUP) comes in the first 10 ms of a start, at each of 40 moments.

        TERM, INT and QUIT end it with 0, HUP leaves it running until TERM ends it with 0; no process is left behind.
        Before the program's first instruction a signal does what it always does; then nothing has begun, and nothing is
        left either."""
        before = 0
        for step in range(STEPS):
            number = self.BLOCKED[step % len(self.BLOCKED)]
            delay = 0.010 * step / STEPS
            daemon = self.launch(number, delay, blocked=True)
            if number == signal.SIGHUP:
                daemon.consuming()
                daemon.kill(signal.SIGTERM)
            self.assertEqual(self.ended(daemon), 0, f"{number!r} after {delay * 1000} ms\n{daemon.text()}")
            daemon = self.launch(signal.SIGTERM, delay, blocked=False)
            code = self.ended(daemon)
            if code != 0:
                self.assertEqual((code, daemon.text()), (-signal.SIGTERM, ""), f"after {delay * 1000} ms")
                before += 1
        self.seen(f"{2 * STEPS} starts, {before} of them ended before their first instruction")
        self.finish()


class Shortage(HostTest):
    processes_of_daemon = 2

    @row("C16")
    def test_C16(self):
        """fork fails while a worker is to be replaced; pthread_create fails for a thread of a worker; there is
        no descriptor for sockets when a connection is to be rebuilt, nor for clients of the control socket and of HTTP.

        Lost 0; again at most one run per channel of the worker that was killed. `worker.spawn-failed` with back-off,
        the other worker goes on; a worker that lacks a thread says so, ends with 71 and is replaced, and never consumes;
        `conn.retry` until there are descriptors; `control.deaf` and `http.deaf`, without the supervisor's turning in
        circles, and clients that have waited are answered."""
        port = harness.closed_port()
        daemon = self.begin(http={"port": port})
        self.load(commands="busy 20", rate=40)
        self.no_fork(daemon)
        self.no_thread(daemon)
        self.no_socket(daemon)
        self.no_client(daemon, port)
        self.finish(daemon, bound=3 * self.threads * self.processes_of_daemon + self.killed * self.threads)

    killed = 0

    def busy_worker(self, daemon):
        """The number and the process of a worker that has done a job, so that its end is no crash loop."""
        started = [line for line in daemon.events("worker.started") if line["worker"].isdigit()][-1]
        number = started["worker"]
        daemon.wait_for("job.done", since=daemon.log.read().index(started), role=f"worker {number}")
        return number, int(started["pid"])

    def kill_one(self, daemon):
        number, pid = self.busy_worker(daemon)
        self.killed += 1
        os.kill(pid, signal.SIGKILL)
        return number

    def no_fork(self, daemon):
        since = daemon.mark_log()
        with self.board.rule("fork", roles="supervisor", mode=FROM):
            number = self.kill_one(daemon)
            self.expect(daemon, "worker.spawn-failed", 3, since)
            self.under_way(daemon)
        daemon.wait_for("worker.consuming", since=since, worker=number)
        exits = daemon.events("worker.exited", since)
        self.assertEqual([line["worker"] for line in exits], [number], "the other one goes on")

    def no_thread(self, daemon):
        with self.board.count("thread", roles="worker", callers="warrend") as threads:
            since = daemon.mark_log()
            number = self.kill_one(daemon)
            daemon.wait_for("worker.consuming", since=since, worker=number)
        for n in self.sample(threads.seen, 3):
            since = daemon.mark_log()
            with self.board.rule("thread", roles="worker", callers="warrend", nth=n) as failing:
                number = self.kill_one(daemon)
                self.expect(daemon, "worker.failed", since=since)
                daemon.wait_for("worker.consuming", since=since, worker=number)
            self.assertEqual(failing.failed, 1)
            codes = [line.get("code") for line in daemon.events("worker.exited", since, worker=number)]
            self.assertEqual(codes, [None, "71"])
            consuming = daemon.events("worker.consuming", since, worker=number)
            self.assertEqual(len(consuming), 1, "the one without a thread consumes")
        self.seen(f"a worker has {threads.seen} threads")

    def no_socket(self, daemon):
        number, pid = self.busy_worker(daemon)
        since = daemon.mark_log()
        role = f"worker {number}"
        with self.board.rule("socket", roles="worker", mode=FROM, pid=pid):
            with self.board.rule("recv", roles="worker", callers="rabbitmq", mode=FROM, pid=pid):
                self.expect(daemon, "conn.lost", since=since, role=role, conn="work")
            self.expect(daemon, "conn.retry", since=since, role=role, conn="work")
            self.under_way(daemon)
        daemon.wait_for("queue.consuming", since=since, role=role)

    def no_client(self, daemon, port):
        with contextlib.ExitStack() as stack:
            local = stack.enter_context(socket.socket(socket.AF_UNIX))
            with self.board.rule("accept", roles="supervisor", mode=FROM) as failing:
                local.connect(daemon.path("warren.sock"))
                web = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
                self.expect(daemon, "control.deaf")
                self.expect(daemon, "http.deaf")
                before, began = failing.failed, time.monotonic()
                self.under_way(daemon)
                self.assertLess(failing.failed - before, 4 * (time.monotonic() - began) + 4, "it turns in circles")
            for client, request in (local, b"version\n"), (web, b"GET / HTTP/1.0\r\n\r\n"):
                client.settimeout(PATIENCE)
                client.sendall(request)
                self.assertIn(b"0.1.0", client.makefile("rb").read())
        self.expect(daemon, "control.hears")
        self.expect(daemon, "http.hears")
