"""A broker that does what no real one can be made to do: a small AMQP 0-9-1 server with scripts.

It logs its clients in, answers what they ask, keeps what they publish in memory and delivers it, so that a daemon is
content. A script is a class that overrides how some method is answered, or sends what it likes. The same port can also
lead to a real broker, so that a daemon begins and ends there.
"""

import collections
import contextlib
import socket
import struct
import threading
import traceback

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END = b"\xce"

# The methods that matter here, by name and number, and what their arguments are: numbers of 1 (b), 2 (h), 4 (l), 8 (q)
# bytes, short (s) and long (S) strings, a table (t, as its raw bytes).
METHODS = {
    "connection.start": (10, 10, "bbtSS"), "connection.start_ok": (10, 11, "tsSs"),
    "connection.tune": (10, 30, "hlh"), "connection.tune_ok": (10, 31, "hlh"),
    "connection.open": (10, 40, "ssb"), "connection.open_ok": (10, 41, "s"),
    "connection.close": (10, 50, "hshh"), "connection.close_ok": (10, 51, ""),
    "connection.blocked": (10, 60, "s"), "connection.unblocked": (10, 61, ""),
    "channel.open": (20, 10, "s"), "channel.open_ok": (20, 11, "S"),
    "channel.close": (20, 40, "hshh"), "channel.close_ok": (20, 41, ""),
    "exchange.declare": (40, 10, "hssbt"), "exchange.declare_ok": (40, 11, ""),
    "exchange.bind": (40, 30, "hsssbt"), "exchange.bind_ok": (40, 31, ""),
    "queue.declare": (50, 10, "hsbt"), "queue.declare_ok": (50, 11, "sll"),
    "queue.bind": (50, 20, "hsssbt"), "queue.bind_ok": (50, 21, ""),
    "basic.qos": (60, 10, "lhb"), "basic.qos_ok": (60, 11, ""),
    "basic.consume": (60, 20, "hssbt"), "basic.consume_ok": (60, 21, "s"),
    "basic.cancel": (60, 30, "sb"), "basic.cancel_ok": (60, 31, "s"),
    "basic.publish": (60, 40, "hssb"), "basic.return": (60, 50, "hsss"),
    "basic.deliver": (60, 60, "sqbss"), "basic.ack": (60, 80, "qb"), "basic.reject": (60, 90, "qb"),
    "basic.nack": (60, 120, "qb"), "confirm.select": (85, 10, "b"), "confirm.select_ok": (85, 11, ""),
}
NAMES = {numbers[:2]: name for name, numbers in METHODS.items()}
SIZES = {"b": ">B", "h": ">H", "l": ">I", "q": ">Q"}

Message = collections.namedtuple("Message", "exchange key properties body")  # properties as they were on the wire


def encode(name, *arguments):
    kind, number, layout = METHODS[name]
    out = struct.pack(">HH", kind, number)
    for letter, value in zip(layout, arguments):
        if letter in SIZES:
            out += struct.pack(SIZES[letter], value)
            continue
        value = value.encode() if isinstance(value, str) else value
        out += struct.pack(">B" if letter == "s" else ">I", len(value)) + value
    return out


def decode(payload):
    name = NAMES[struct.unpack_from(">HH", payload)]
    at, values = 4, []
    for letter in METHODS[name][2]:
        if letter in SIZES:
            values += struct.unpack_from(SIZES[letter], payload, at)
            at += struct.calcsize(SIZES[letter])
            continue
        size, = struct.unpack_from(">B" if letter == "s" else ">I", payload, at)
        at += 1 if letter == "s" else 4
        values.append(payload[at:at + size])
        at += size
    return name, [value.decode(errors="replace") if isinstance(value, bytes) else value for value in values]


def field(key, kind, value):
    return struct.pack("B", len(key)) + key + kind + value


def string(text):
    return struct.pack(">I", len(text)) + text


def headers(table):
    """The properties of a message that has these headers alone."""
    return struct.pack(">H", 0x2000) + string(table)


CAPABILITIES = b"".join(field(name, b"t", b"\1") for name in (
    b"consumer_cancel_notify", b"publisher_confirms", b"basic.nack", b"connection.blocked", b"exchange_exchange_bindings"))
SERVER = (field(b"product", b"S", string(b"RabbitMQ")) + field(b"version", b"S", string(b"3.10.8")) +
          field(b"capabilities", b"F", string(CAPABILITIES)))


class Gone(Exception):
    """The client has closed the connection."""


class Channel:
    def __init__(self):
        self.queue = self.tag = None  # what is consumed here
        self.delivered = self.published = 0  # tags given out, confirms due
        self.waiting = {}  # tag: message, not acked
        self.confirms = False


class Client:
    """One connection to the fake broker, served by a thread of its own."""

    def __init__(self, server, peer):
        self.server, self.peer, self.channels = server, peer, {}
        self.input, self.publishes = b"", False
        self.frame_max = 131072
        self.lock = threading.RLock()  # rows send from their thread, too

    # -- out --

    def raw(self, data):
        with self.lock:
            self.peer.sendall(data)

    def frame(self, kind, channel, payload, end=END):
        self.raw(struct.pack(">BHI", kind, channel, len(payload)) + payload + end)

    def send(self, channel, name, *arguments):
        self.frame(METHOD, channel, encode(name, *arguments))

    def content(self, channel, properties, body, size=None):
        """Header and body frames; `size` is what the header claims."""
        self.frame(HEADER, channel, struct.pack(">HHQ", 60, 0, len(body) if size is None else size) + properties)
        room = self.frame_max - 8
        for at in range(0, len(body), room):
            self.frame(BODY, channel, body[at:at + room])

    def deliver_method(self, channel, tag=None, consumer=None, redelivered=False):
        state = self.channels[channel]
        if tag is None:
            state.delivered += 1
            tag = state.delivered
        self.send(channel, "basic.deliver", state.tag if consumer is None else consumer, tag, redelivered, "", state.queue)
        return tag

    def deliver(self, channel, message, redelivered=False):
        with self.lock:
            tag = self.deliver_method(channel, redelivered=redelivered)
            self.channels[channel].waiting[tag] = message
            self.content(channel, message.properties, message.body)

    # -- in --

    def receive(self, size):
        while len(self.input) < size:
            piece = self.peer.recv(65536)
            if not piece:
                raise Gone
            self.input += piece
        data, self.input = self.input[:size], self.input[size:]
        return data

    def next_frame(self):
        kind, channel, size = struct.unpack(">BHI", self.receive(7))
        assert size <= self.frame_max - 8, f"501 FRAME_ERROR: a frame of {size} bytes, {self.frame_max} were agreed upon"
        payload = self.receive(size)
        if self.receive(1) != END:
            raise ValueError("the client's frame has no end")
        return kind, channel, payload

    def next_method(self):
        """The next method, with the content that belongs to it; heartbeats are answered."""
        while True:
            kind, channel, payload = self.next_frame()
            if kind == HEARTBEAT:
                self.server.heard(self)
                continue
            if kind != METHOD:
                raise ValueError(f"a frame of kind {kind} where a method belongs")
            name, arguments = decode(payload)
            return channel, name, arguments, self.next_content(channel) if name == "basic.publish" else None

    def next_content(self, channel):
        kind, number, payload = self.next_frame()
        assert (kind, number) == (HEADER, channel), "a publish without its header: 505 UNEXPECTED_FRAME"
        size, body = struct.unpack_from(">Q", payload, 4)[0], b""
        while len(body) < size:
            kind, number, part = self.next_frame()
            assert (kind, number) == (BODY, channel), "a publish without its body: 505 UNEXPECTED_FRAME"
            body += part
        return payload[12:], body

    def serve(self):
        self.log_in()
        while True:
            channel, name, arguments, content = self.next_method()
            with self.lock:
                self.server.note(self, channel, name, arguments)
                answer = getattr(self.server, "on_" + name.replace(".", "_"), None)
                if answer is None:
                    raise ValueError(f"the fake broker does not know {name}")
                if content:
                    arguments = [*arguments, *content]
                answer(self, channel, *arguments)

    def log_in(self):
        if self.receive(8) != b"AMQP\0\0\x09\1":
            raise ValueError("no AMQP 0-9-1 client")
        self.send(0, "connection.start", 0, 9, SERVER, "PLAIN", "en_US")
        _, name, arguments, _ = self.next_method()
        assert name == "connection.start_ok"
        self.publishes = " publish" in arguments[0]  # by the connection's name
        self.send(0, "connection.tune", *self.server.tune)
        while True:
            _, name, arguments, _ = self.next_method()
            if name == "connection.tune_ok":
                self.frame_max = arguments[1]
                self.server.terms.append(arguments)
            elif name == "connection.open":
                self.send(0, "connection.open_ok", "")
                return


class Place:
    """A port on loopback that leads to a real broker, or to a script."""

    def __init__(self, real):
        self.real, self.script = real, None
        self.peers = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.accepter = begin(self.accept)

    def url(self, vhost="%2f"):
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{vhost}"

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self.listener.accept()
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.peers.append(peer)
                if self.script:
                    self.script.welcome(peer)
                else:
                    self.relay(peer)

    def relay(self, peer):
        try:
            other = socket.create_connection(("127.0.0.1", self.real))
        except OSError:
            peer.close()
            return
        self.peers.append(other)
        begin(pipe, peer, other)
        begin(pipe, other, peer)

    def turn_to(self, script):
        """From now on connections are the script's, or the real broker's where it is None; those that stand are cut."""
        self.script = script
        peers, self.peers = self.peers, []
        for peer in peers:
            cut(peer)

    def close(self):
        cut(self.listener)
        self.listener.close()
        self.turn_to(None)
        self.accepter.join(10)


def begin(work, *arguments):
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread


def cut(peer):
    with contextlib.suppress(OSError):
        peer.shutdown(socket.SHUT_RDWR)


def pipe(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    cut(source)
    cut(target)
    source.close()


class Script:
    """What is done with each connection; `failures` are what went wrong here: a test wants none."""

    def __init__(self):
        self.lock = threading.RLock()
        self.clients, self.failures, self.accepted = [], [], 0

    def welcome(self, peer):
        client = Client(self, peer)
        with self.lock:
            self.accepted += 1
            self.clients.append(client)
        begin(self.look_after, client)

    def look_after(self, client):
        try:
            self.serve(client)
        except (Gone, OSError):
            pass
        except Exception:  # pylint: disable=broad-except
            self.failures.append(traceback.format_exc())
        finally:
            with self.lock:
                self.clients.remove(client)
                self.gone(client)
            cut(client.peer)
            client.peer.close()

    def serve(self, client):
        client.serve()

    def gone(self, client):
        pass


class FakeBroker(Script):
    """A well-behaved broker. `log` is what clients sent, as (client, channel, method, arguments); `published` and `queues`
    are messages; `settled` is what was acked, rejected or given back, as (method, message, requeue)."""

    tune = (2047, 131072, 1)

    def __init__(self):
        super().__init__()
        self.log, self.settled, self.terms = [], [], []  # terms: of each tune-ok
        self.published, self.queues = [], collections.defaultdict(collections.deque)

    # -- what a broker remembers --

    def note(self, client, channel, name, arguments):
        with self.lock:
            self.log.append((client, channel, name, arguments))

    def count(self, name):
        with self.lock:
            return sum(entry[2] == name for entry in self.log)

    def put(self, queue, body, properties=None):
        """A message from outside."""
        if properties is None:
            properties = struct.pack(">HB", 0x1000, 2)  # delivery_mode 2
        message = Message("", queue, properties, body if isinstance(body, bytes) else body.encode())
        with self.lock:
            self.queues[queue].append((message, False))
        self.pump(queue)

    def consumers(self, queue):
        with self.lock:
            return [(client, number) for client in self.clients for number, channel in list(client.channels.items())
                    if channel.queue == queue]

    def pump(self, queue):
        """Deliveries to whoever has room: prefetch is 1."""
        for client, number in self.consumers(queue):
            with client.lock, self.lock:
                channel = client.channels.get(number)
                if not channel or channel.waiting or channel.queue != queue or not self.queues[queue]:
                    continue
                message, redelivered = self.queues[queue].popleft()
            with contextlib.suppress(OSError):
                self.hand_over(client, number, message, redelivered)

    def hand_over(self, client, number, message, redelivered):
        client.deliver(number, message, redelivered)

    def give_back(self, channel):
        for message in channel.waiting.values():
            self.queues[channel.queue].appendleft((message, True))
        channel.waiting.clear()

    def gone(self, client):
        for channel in client.channels.values():
            self.give_back(channel)
        client.channels.clear()

    # -- what a script may do otherwise --

    def heard(self, client):
        client.frame(HEARTBEAT, 0, b"")

    def on_connection_close(self, client, channel, *_):
        client.send(0, "connection.close_ok")

    def on_connection_close_ok(self, *_):
        raise Gone

    def on_channel_open(self, client, channel, *_):
        assert channel not in client.channels, "504: second channel.open seen"
        client.channels[channel] = Channel()
        client.send(channel, "channel.open_ok", "")

    def on_channel_close(self, client, channel, *_):
        self.give_back(client.channels.pop(channel))
        client.send(channel, "channel.close_ok")

    def on_channel_close_ok(self, client, channel):
        pass

    def close_channel(self, client, channel, code=406, text="PRECONDITION_FAILED - scripted"):
        with client.lock:
            state = client.channels.pop(channel)
            client.send(channel, "channel.close", code, text, 0, 0)
            self.give_back(state)

    def on_exchange_declare(self, client, channel, *_):
        client.send(channel, "exchange.declare_ok")

    def on_exchange_bind(self, client, channel, *_):
        client.send(channel, "exchange.bind_ok")

    def on_queue_declare(self, client, channel, _, name, *rest):
        client.send(channel, "queue.declare_ok", name, len(self.queues[name]), 0)

    def on_queue_bind(self, client, channel, *_):
        client.send(channel, "queue.bind_ok")

    def on_basic_qos(self, client, channel, *_):
        client.send(channel, "basic.qos_ok")

    def on_basic_consume(self, client, channel, _, queue, tag, *rest):
        state = client.channels[channel]
        state.queue, state.tag = queue, tag
        client.send(channel, "basic.consume_ok", tag)
        self.pump(queue)

    def on_basic_cancel(self, client, channel, tag, *_):
        client.channels[channel].queue = None
        client.send(channel, "basic.cancel_ok", tag)

    def settle(self, client, channel, name, tag, requeue):
        state = client.channels.get(channel)
        if state is None:
            return  # sent before our channel.close had arrived
        assert tag in state.waiting, f"406: {name} of unknown delivery tag {tag}"
        message = state.waiting.pop(tag)
        self.settled.append((name, message, requeue))
        queue = state.queue or message.key
        if requeue:
            with self.lock:
                self.queues[queue].appendleft((message, True))
        self.pump(queue)

    def on_basic_ack(self, client, channel, tag, _):
        self.settle(client, channel, "ack", tag, False)

    def on_basic_nack(self, client, channel, tag, flags):
        self.settle(client, channel, "nack", tag, bool(flags & 2))

    def on_basic_reject(self, client, channel, tag, flags):
        self.settle(client, channel, "reject", tag, bool(flags & 1))

    def on_confirm_select(self, client, channel, *_):
        client.channels[channel].confirms = True
        client.send(channel, "confirm.select_ok")

    def on_basic_publish(self, client, channel, _, exchange, key, flags, properties, body):
        state = client.channels[channel]
        state.published += 1
        message = Message(exchange, key, properties, body)
        with self.lock:
            self.published.append(message)
        self.confirm(client, channel, state.published, message)

    def confirm(self, client, channel, number, message):
        if message.exchange == "":
            with self.lock:
                self.queues[message.key].append((message, False))
        client.send(channel, "basic.ack", number, 0)
