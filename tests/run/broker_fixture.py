"""A private RabbitMQ node for the tests, shared by all of a file, and a vhost for each test.

WARREN_BUILD names the build folder whose programs are tested. WARREN_TEST_BROKER may name the folder of
a node that runs already (scripts/broker start DIR); then none is started.
"""

import atexit
import json
import os
import shutil
import subprocess
import tempfile
import time
import unittest
import warnings

import pika

import canary

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("WARREN_BUILD", os.path.join(ROOT, "build"))
WARREN = os.path.join(BUILD, "src", "warren")
SCRIPT = os.path.join(ROOT, "scripts", "broker")
PATIENCE = 60  # seconds until a condition that must come true counts as failed


def wait_until(condition, what, seconds=PATIENCE):
    """Waits until condition() is true and returns its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.02)


class Broker:
    """A node in a folder of its own; ends with this process."""

    vhosts_at_once = 10
    settings = ()  # options of `scripts/broker start`

    def __init__(self, folder=None, settings=None):
        self.own = folder is None
        self.settings = self.settings if settings is None else settings
        self.folder = folder or tempfile.mkdtemp(prefix="warren-broker-")
        self.vhosts = 0  # made so far
        self.spare = []  # of them, not used yet
        if self.own:
            atexit.register(self.remove)
            self.start()

    def script(self, word, *args):
        done = subprocess.run([SCRIPT, word, self.folder, *args], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=180)
        if done.returncode != 0:
            raise RuntimeError(f"scripts/broker {word} {args}: {done.stdout}")
        return done.stdout

    def start(self):
        self.script("start", "--with-parent", str(os.getpid()), *self.settings)

    def kill(self):
        self.script("kill")

    def ctl(self, *args):
        return self.script("ctl", "-q", *args)

    def takes_transient_queues(self):
        """Whether it takes queues that are neither durable nor exclusive: RabbitMQ 4.3 may refuse them."""
        connection = pika.BlockingConnection(pika.URLParameters(self.url(self.add_vhost())))
        try:
            connection.channel().queue_declare("transient", durable=False)
            connection.close()
            return True
        except pika.exceptions.ConnectionClosedByBroker:
            return False

    def remove(self):
        self.script("kill")
        shutil.rmtree(self.folder, ignore_errors=True)

    def port(self):
        return int(self.script("url").split("@")[1].split("/")[0].split(":")[1])

    def add_vhost(self):
        """A new vhost, of several that are made at once: a run of rabbitmqctl takes most of a second."""
        if not self.spare:
            self.spare = [f"test-{os.getpid()}-{self.vhosts + i}" for i in range(self.vhosts_at_once)]
            self.vhosts += len(self.spare)
            rights = {"configure": ".*", "write": ".*", "read": ".*"}
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                json.dump({"vhosts": [{"name": name} for name in self.spare], "users": [canary.DEFINITION],
                           "permissions": [{"vhost": name, "user": user, **rights}
                                           for name in self.spare for user in ("guest", canary.USER)]}, file)
                file.flush()
                self.ctl("import_definitions", file.name)
        return self.spare.pop()

    def url(self, vhost):
        return f"amqp://{canary.LOGIN}@127.0.0.1:{self.port()}/{vhost}"


_shared = None


def shared_broker():
    global _shared
    if _shared is None:
        _shared = Broker(os.environ.get("WARREN_TEST_BROKER"))
    return _shared


class BrokerTest(unittest.TestCase):
    """Each test has a vhost, a pika channel with confirms, and `warren` to run there."""

    broker = None

    def setUp(self):
        warnings.simplefilter("ignore", ResourceWarning)  # pika leaves sockets of lost connections
        if self.broker is None:
            self.broker = shared_broker()
        self.vhost = self.broker.add_vhost()
        self.url = self.broker.url(self.vhost)
        self.connection = None
        self.channel = self.open_channel()
        self.processes = []

    def tearDown(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        try:
            self.connection.close()
        except pika.exceptions.AMQPError:
            pass
        if not self.broker.own:
            self.broker.ctl("delete_vhost", self.vhost)

    def open_channel(self):
        self.connection = pika.BlockingConnection(pika.URLParameters(self.url + "?heartbeat=0"))
        channel = self.connection.channel()
        channel.confirm_delivery()
        return channel

    def environment(self):
        return {**os.environ, "WARREN_URL": self.url}

    def warren(self, *args, code=0, **options):
        """Runs warren to its end and checks its exit code. Bytes in, bytes out."""
        options.setdefault("env", self.environment())
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run([WARREN, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=PATIENCE, **options)
        self.assertFalse(canary.sings(done.stdout + done.stderr), f"warren {args[0]} shows the password")
        self.assertEqual(done.returncode, code, f"warren {args}: {done.stderr.decode()}")
        return done

    def spawn(self, *args, **options):
        options.setdefault("env", self.environment())
        options.setdefault("stdout", subprocess.PIPE)
        process = subprocess.Popen([WARREN, *args], stdin=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        self.processes.append(process)
        return process

    def ready(self, queue):
        """How many messages are ready in the queue."""
        return self.channel.queue_declare(queue, passive=True).method.message_count

    def put(self, queue, *bodies, **properties):
        for body in bodies:
            self.channel.basic_publish("", queue, body, pika.BasicProperties(**properties), mandatory=True)

    def get(self, queue):
        """The next message as (method, properties, body); it is gone from the queue."""
        return wait_until(lambda: self.try_get(queue), f"a message in {queue}")

    def try_get(self, queue):
        method, properties, body = self.channel.basic_get(queue, auto_ack=True)
        return (method, properties, body) if method else None

    def end(self, process, code, with_signal=None):
        if with_signal is not None:
            process.send_signal(with_signal)
        out, err = process.communicate(timeout=PATIENCE)
        self.assertFalse(canary.sings((out or b"") + err), "warren shows the password")
        self.assertEqual(process.returncode, code, err.decode())
        return out, err
