#!/usr/bin/python3
"""The supervisor's doors, as clients find them that mean well, and others: control socket and HTTP."""

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import time
import unittest

from harness import WarrendTest, closed_port, wait_until

WORK = {"name": "work", "durable": True, "threads": 2, "task": "ledger.run"}
NOBODY, DAEMON = 65534, 1
SLOW = 20  # seconds for what warrend ends after 2 or 5, on a busy machine


def connect(path):
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    client.settimeout(SLOW)
    return client


def read_all(client):
    """All that comes until the other side closes."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while some := client.recv(65536):
            data += some
    return data


def ask(path, line):
    """One request, as warren(1) makes it."""
    with connect(path) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(line if isinstance(line, bytes) else line.encode() + b"\n")
        reply = read_all(client)
    assert reply.endswith(b"\n") and reply.count(b"\n") == 1, reply
    return json.loads(reply)


class ControlTest(WarrendTest):
    def socket_of(self, daemon):
        return daemon.path("warren.sock")

    def version(self, path):
        reply = ask(path, "version")
        self.assertEqual(reply.keys(), {"ok", "version"})
        return reply["ok"]

    def refused(self, path, line, code, *words):
        reply = ask(path, line)
        self.assertEqual((reply["ok"], reply["code"]), (False, code))
        for word in words:
            self.assertIn(word, reply["error"])

    def cannot_start(self, config, *words, **more):
        """73, and the words on standard error; no worker was started."""
        daemon = self.daemon(config, **more).start()
        self.assertEqual(daemon.wait(), 73, daemon.text())
        for word in words:
            self.assertIn(word, daemon.text())
        self.assertEqual(daemon.events("worker.started"), [])
        return daemon

    def reload(self, daemon, event, config):
        since = daemon.mark_log()
        daemon.write(config)
        daemon.kill(signal.SIGHUP)
        found = daemon.wait_for(event, since=since)
        if event == "reload.done":
            daemon.wait_for("worker.exited", since=since)  # the next one does not have to wait
        return found

    def descriptors(self, daemon):
        return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


class Requests(ControlTest):
    def test_what_is_asked_is_answered(self):
        daemon = self.warrend(WORK)
        path = self.socket_of(daemon)
        self.assertTrue(self.version(path))
        self.refused(path, "versoin", 64, 'no command "versoin"; there are: ', "version")
        self.refused(path, "version 3", 64, 'wrong words after "version"; there are: version')
        self.refused(path, "%1b[2J", 64, 'no command "\\x1b[2J"')

    def test_garbage(self):
        daemon = self.warrend(WORK)
        path = self.socket_of(daemon)
        before = self.descriptors(daemon)
        for line, words in ((b"\n", "empty"), (b" \n", "one space"), (b"version \n", "one space"), (b"a\x00b\n", "printable"),
                            (b"\xff\xfe\n", "printable"), (b"%\n", "hexadecimal"), (b"version\nversion\n", "behind"),
                            (b"x " * 9 + b"x\n", "too many words"), (b"x" * 4095 + b"\n", "no command"),
                            (b"x" * 4096, "longer than 4096 bytes"), (b"x" * 1000000, "longer than 4096 bytes"),
                            (b"GET / HTTP/1.1\r\n\r\n", "behind")):
            with self.subTest(line[:20]):
                self.refused(path, line, 64, words)
        draw = random.Random(4)
        for _ in range(200):
            with connect(path) as client, contextlib.suppress(BrokenPipeError):
                client.sendall(draw.randbytes(draw.randrange(1, 6000)))
                if draw.random() < 0.5:
                    client.shutdown(socket.SHUT_WR)
        self.assertTrue(self.version(path))
        wait_until(lambda: self.descriptors(daemon) == before, "all clients are gone")

    def test_a_line_may_come_in_pieces_and_its_sender_may_stop_sending(self):
        daemon = self.warrend(WORK)
        with connect(self.socket_of(daemon)) as client:
            for piece in (b"ver", b"sion", b"\n"):
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
            self.assertTrue(json.loads(read_all(client))["ok"])
        with connect(self.socket_of(daemon)) as client:
            client.sendall(b"version")
            client.shutdown(socket.SHUT_WR)
            self.assertIn("no end", json.loads(read_all(client))["error"])

    def test_who_says_nothing_is_sent_away_and_holds_nobody_up(self):
        daemon = self.warrend(WORK)
        path = self.socket_of(daemon)
        with connect(path) as silent, connect(path) as slow:
            started = time.monotonic()
            slow.sendall(b"versi")
            self.assertTrue(self.version(path))
            self.put("work", "job")
            daemon.ran("job")
            for client in (silent, slow):
                reply = json.loads(read_all(client))
                self.assertEqual((reply["code"], reply["error"]), (64, "no whole line came within 2 seconds"))
            self.assertGreater(time.monotonic() - started, 1.9)

    def test_the_17th_client_is_told_so(self):
        daemon = self.warrend(WORK)
        path = self.socket_of(daemon)

        def told():
            with contextlib.ExitStack() as stack:
                for _ in range(16):
                    stack.enter_context(connect(path))
                return ask(path, "version") == {"ok": False, "code": 75,
                                                "error": "16 clients are being served already; try again"}
        wait_until(told, "16 are not sent away before the 17th comes")
        wait_until(lambda: ask(path, "version")["ok"], "they are gone, and there is room")


class Peers(ControlTest):
    ASK = ("import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(b'version\\n'); "
           "sys.stdout.write(s.makefile().read())")

    def setUp(self):
        super().setUp()
        if os.geteuid() != 0:
            self.skipTest("only root can be somebody else")
        self.server = self.warrend(WORK)
        self.socket = self.socket_of(self.server)
        os.chmod(self.server.folder, 0o755)

    def ask_as(self, user, group, *groups):
        more = ["--groups", ",".join(map(str, groups))] if groups else ["--clear-groups"]
        done = subprocess.run(["setpriv", "--reuid", str(user), "--regid", str(group), *more, sys.executable, "-c", self.ASK,
                               self.socket], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def test_its_mode_keeps_others_out(self):
        self.assertIsNone(self.ask_as(NOBODY, NOBODY))
        self.assertTrue(self.ask_as(0, 0)["ok"])

    def test_so_does_warrend_where_its_mode_does_not(self):
        os.chmod(self.socket, 0o666)
        reply = self.ask_as(NOBODY, NOBODY)
        self.assertEqual((reply["ok"], reply["code"]), (False, 77))
        self.assertIn("not allowed", reply["error"])
        self.server.wait_for("control.refused", uid=NOBODY)

    def test_the_members_of_its_group_may_come_in(self):
        os.chown(self.socket, 0, DAEMON)
        self.assertTrue(self.ask_as(NOBODY, DAEMON)["ok"])
        self.assertTrue(self.ask_as(NOBODY, NOBODY, 7, DAEMON, 9)["ok"])
        os.chmod(self.socket, 0o666)
        self.assertEqual(self.ask_as(NOBODY, NOBODY, 7, 9)["code"], 77)


class Socket(ControlTest):
    def test_mode_and_owner_and_its_end(self):
        daemon = self.daemon(lambda folder: self.settings([WORK], control={"socket": f"{folder}/run/s"})(folder))
        daemon.prefix = ("sh", "-c", 'umask 077; exec "$@"', "sh")
        daemon.start().consuming()
        for name, mode in (("run", stat.S_IFDIR | 0o750), ("run/s", stat.S_IFSOCK | 0o660)):
            st = os.stat(daemon.path(name))
            self.assertEqual((st.st_mode, st.st_uid, st.st_gid), (mode, os.geteuid(), os.getegid()))
        self.assertTrue(self.version(daemon.path("run/s")))
        self.assertEqual(daemon.stop(), 0)
        self.assertEqual(os.listdir(daemon.path("run")), [])

    def test_it_answers_while_the_daemon_drains(self):
        daemon = self.warrend(WORK)
        self.put("work", f"job;wait {daemon.path('go')}")
        daemon.ran("job", what="start")
        daemon.kill(signal.SIGTERM)
        daemon.wait_for("drain.start")
        self.assertTrue(self.version(self.socket_of(daemon)))
        open(daemon.path("go"), "w").close()
        self.assertEqual(daemon.wait(), 0)
        self.assertFalse(os.path.exists(self.socket_of(daemon)))

    def test_what_a_killed_daemon_left_is_replaced(self):
        daemon = self.warrend(WORK)
        daemon.kill(signal.SIGKILL)
        daemon.wait()
        self.assertTrue(os.path.exists(self.socket_of(daemon)))
        daemon.start().wait_for("control.listening", 2)
        self.assertTrue(self.version(self.socket_of(daemon)))

    def test_a_second_daemon_does_not_take_it(self):
        for control in ({"socket": "warren.sock"}, {}):
            with self.subTest(control):
                first = self.warrend(WORK, control=control)
                inode = os.stat(self.socket_of(first)).st_ino
                self.cannot_start(first.text("warren.cfg").replace('"warren.sock"', f'"{self.socket_of(first)}"'),
                                  f"somebody listens on {self.socket_of(first)} already (process {first.process.pid})",
                                  environment={"RUNTIME_DIRECTORY": first.folder})
                self.assertTrue(self.version(self.socket_of(first)))
                self.assertEqual(os.stat(self.socket_of(first)).st_ino, inode)
                self.assertEqual(first.stop(), 0)

    def test_many_starts_at_once_leave_one(self):
        first = self.warrend(WORK)
        first.kill(signal.SIGKILL)
        first.wait()
        text = first.text("warren.cfg")
        crowd = [self.daemon(text).start() for _ in range(6)]
        wait_until(lambda: sum(d.process.poll() == 73 for d in crowd) == 5, "all but one have given up")
        last = next(d for d in crowd if d.process.poll() is None)
        last.consuming()
        self.assertTrue(self.version(self.socket_of(first)))
        self.assertEqual(last.stop(), 0)
        self.assertFalse(os.path.exists(self.socket_of(first)))

    def test_what_is_not_ours_stays(self):
        def config(folder):
            with open(os.path.join(folder, "precious"), "w") as file:
                file.write("content")
            return self.settings([WORK], control={"socket": "precious"})(folder)
        daemon = self.cannot_start(config, "precious is there already and is no socket of ours; it stays")
        self.assertEqual(daemon.text("precious"), "content")
        self.assertIn("warren.cfg:", daemon.text())

    def test_folders_that_cannot_be_used(self):
        def open_folder(folder):
            os.mkdir(os.path.join(folder, "open"))
            os.chmod(os.path.join(folder, "open"), 0o777)
            return self.settings([WORK], control={"socket": "open/s"})(folder)
        self.cannot_start(open_folder, "open (mode 0777) is writable by others; chmod go-w mends it")
        self.cannot_start(self.settings([WORK], control={"socket": "a/b/s"}), "/a/b is missing and cannot be made")

    def test_without_the_default_one_work_goes_on(self):
        daemon = self.daemon(self.settings([WORK], control={}), environment={"RUNTIME_DIRECTORY": "/proc/nowhere"})
        daemon.start().consuming()
        line = daemon.wait_for("control.off")
        self.assertIn("/proc/nowhere", line["why"])
        self.assertIn("control.socket", line["remedy"])
        self.assertEqual(daemon.stop(), 0)

    def test_it_can_be_switched_off(self):
        daemon = self.warrend(WORK, control={"socket": ""})
        self.assertEqual(daemon.events("control.off") + daemon.events("control.listening"), [])
        self.assertFalse(os.path.exists(self.socket_of(daemon)))


def get(port, path="/healthz", method="GET", address="127.0.0.1", **headers):
    connection = http.client.HTTPConnection(address, port, timeout=SLOW)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read().decode()


def say(port, data):
    """Raw bytes there, and all that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=SLOW) as client:
        client.sendall(data)
        return read_all(client)


class Reload(ControlTest):
    def test_both_doors_move(self):
        ports = closed_port(), closed_port()
        daemon = self.warrend(WORK, http={"port": ports[0]})
        self.assertEqual(get(ports[0])[0], 200)
        self.reload(daemon, "reload.done", self.settings([WORK], control={"socket": "new.sock"}, http={"port": ports[1]}))
        self.assertTrue(self.version(daemon.path("new.sock")))
        self.assertFalse(os.path.exists(self.socket_of(daemon)))
        self.assertEqual(get(ports[1])[0], 200)
        with self.assertRaises(ConnectionRefusedError):
            get(ports[0])
        self.reload(daemon, "reload.done", self.settings([WORK], control={"socket": ""}))
        self.assertFalse(os.path.exists(daemon.path("new.sock")))
        with self.assertRaises(ConnectionRefusedError):
            get(ports[1])

    def test_from_one_address_to_all_on_the_same_port(self):
        port = closed_port()
        daemon = self.warrend(WORK, http={"port": port})
        for address in ("0.0.0.0", "127.0.0.1"):
            self.reload(daemon, "reload.done", self.settings([WORK], http={"port": port, "address": address}))
            self.assertEqual(get(port)[0], 200)

    def test_what_cannot_be_opened_is_refused_and_nothing_moves(self):
        port, other = closed_port(), socket.create_server(("127.0.0.1", 0))
        self.addCleanup(other.close)
        daemon = self.warrend(WORK, http={"port": port})
        open(daemon.path("file"), "w").close()
        for sections, words in (({"http": {"port": other.getsockname()[1]}, "control": {"socket": "new.sock"}}, "Address already in use"),
                                ({"http": {"port": port}, "control": {"socket": "file"}}, "is there already")):
            line = self.reload(daemon, "reload.refused", self.settings([WORK], **sections))
            self.assertIn(words, line["error"])
            self.assertGreater(int(line["line"]), 0)
            self.assertTrue(self.version(self.socket_of(daemon)))
            self.assertEqual(get(port)[0], 200)
            self.assertFalse(os.path.exists(daemon.path("new.sock")))

    def test_rolled_back_with_the_rest(self):
        ports = closed_port(), closed_port()
        daemon = self.warrend(WORK, http={"port": ports[0]})
        self.reload(daemon, "reload.rolled-back", self.settings(
            [WORK], urls=[f"amqp://127.0.0.1:{closed_port()}"], workers={"start_limit": "1s"},
            control={"socket": "new.sock"}, http={"port": ports[1]}))
        self.assertFalse(os.path.exists(daemon.path("new.sock")))
        self.assertTrue(self.version(self.socket_of(daemon)))
        self.assertEqual(get(ports[0])[0], 200)
        with self.assertRaises(ConnectionRefusedError):
            get(ports[1])

    def test_a_socket_that_somebody_removed_comes_back(self):
        daemon = self.warrend(WORK)
        os.unlink(self.socket_of(daemon))
        self.reload(daemon, "reload.done", daemon.text("warren.cfg"))
        self.assertTrue(self.version(self.socket_of(daemon)))


class Http(ControlTest):
    def setUp(self):
        super().setUp()
        self.port = closed_port()

    def served(self, **settings):
        return self.warrend(WORK, http={"port": self.port, **settings})

    def test_pages(self):
        self.served()
        status, headers, body = get(self.port, "/")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/plain; charset=utf-8"))
        self.assertIn("/healthz", body)
        self.assertEqual(get(self.port, "/healthz")[::2], (200, "ok\n"))
        status, headers, body = get(self.port, "/healthz", "HEAD")
        self.assertEqual((status, headers["Content-Length"], body), (200, "3", ""))
        self.assertEqual(get(self.port, "/healthz/")[0], 404)
        self.assertEqual(get(self.port, "/../etc/passwd")[0], 404)

    def test_other_methods(self):
        self.served()
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"):
            status, headers, _ = get(self.port, "/healthz", method)
            self.assertEqual((status, headers["Allow"]), (405, "GET, HEAD"))
        self.assertIn(b" 405 ", say(self.port, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"))

    def test_requests_that_are_too_large_or_none(self):
        daemon = self.served()
        before = self.descriptors(daemon)
        self.assertEqual(get(self.port, long="x" * 4000)[0], 200)
        self.assertEqual(get(self.port, long="x" * 9000)[0], 431)
        self.assertIn(b" 414 ", say(self.port, b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n"))
        self.assertIn(b" 400 ", say(self.port, b"GET / HTTP/1.1\r\nno colon\r\n\r\n"))
        draw = random.Random(4)
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)) as client:
                client.sendall(draw.randbytes(draw.randrange(1, 20000)))
        wait_until(lambda: self.descriptors(daemon) == before, "all of them are gone")
        self.assertEqual(get(self.port)[0], 200)

    def test_16_slow_clients_hold_nobody_up_for_long(self):
        daemon = self.served()
        with contextlib.ExitStack() as stack:
            slow = [stack.enter_context(socket.create_connection(("127.0.0.1", self.port), timeout=SLOW)) for _ in range(16)]
            started = time.monotonic()
            for client in slow:
                client.sendall(b"GET / HT")
            self.put("work", *[f"job-{i}" for i in range(20)])
            for i in range(20):
                daemon.ran(f"job-{i}")
            self.assertTrue(self.version(self.socket_of(daemon)))
            self.assertEqual(get(self.port)[0], 200)
            for client in slow:
                read_all(client)
            self.assertGreater(time.monotonic() - started, 4)

    def test_a_byte_now_and_then_does_not_help(self):
        self.served()
        with socket.create_connection(("127.0.0.1", self.port), timeout=SLOW) as client:
            client.settimeout(0.5)
            started = time.monotonic()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                while time.monotonic() < started + SLOW:
                    client.sendall(b"G")
                    with contextlib.suppress(TimeoutError):
                        if client.recv(1) == b"":
                            break
            self.assertLess(time.monotonic() - started, SLOW)

    def test_it_listens_where_it_was_told(self):
        daemon = self.served()
        with self.assertRaises(ConnectionRefusedError):
            get(self.port, address="127.0.0.2")
        self.assertEqual(daemon.stop(), 0)
        with self.assertRaises(ConnectionRefusedError):
            get(self.port)
        daemon = self.served(address="127.0.0.2")
        self.assertEqual(get(self.port, address="127.0.0.2")[0], 200)

    def test_a_port_in_use(self):
        with socket.create_server(("127.0.0.1", self.port)):
            daemon = self.cannot_start(self.settings([WORK], http={"port": self.port}),
                                       f"cannot listen on 127.0.0.1 port {self.port}: Address already in use")
        self.assertFalse(os.path.exists(self.socket_of(daemon)))


if __name__ == "__main__":
    unittest.main()
