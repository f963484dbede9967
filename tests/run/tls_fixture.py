"""TLS for the tests: certificate authorities of their own, a node that listens with them, and servers that misbehave."""

import contextlib
import os
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import threading

import harness

CA = """[ca]
default_ca = here
[here]
new_certs_dir = {folder}
database = {folder}/index
rand_serial = yes
certificate = {folder}/ca.pem
private_key = {folder}/ca.key
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
"""

NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]


def openssl(*args):
    done = subprocess.run(["openssl", *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {args}: {done.stdout}")


class Authority:
    """Somebody who signs certificates."""

    def __init__(self, folder, name):
        self.folder = os.path.join(folder, name)
        os.mkdir(self.folder, 0o700)
        self.config = self.path("config")
        self.file = self.path("ca.pem")
        for file, text in (("config", CA.format(folder=self.folder)), ("index", "")):
            with open(self.path(file), "w") as out:
                out.write(text)
        openssl("req", "-x509", *NEW_KEY, "-nodes", "-days", "2", "-subj", f"/CN={name}",
                "-keyout", self.path("ca.key"), "-out", self.file)

    def path(self, name):
        return os.path.join(self.folder, name)

    def issue(self, file, subject, names="DNS:localhost", expired=False, password=None):
        """A certificate `file`.pem with its key `file`.key; returns the two paths."""
        pem, key = self.path(file + ".pem"), self.path(file + ".key")
        protect = ["-passout", f"pass:{password}"] if password else ["-nodes"]
        openssl("req", "-new", *NEW_KEY, *protect, "-subj", f"/CN={subject}", "-keyout", key,
                "-out", self.path("request"))
        with open(self.path("extensions"), "w") as out:
            out.write(f"subjectAltName = {names}\n")
        dates = ["-startdate", "20200101000000Z", "-enddate", "20210101000000Z"] if expired else ["-days", "2"]
        openssl("ca", "-batch", "-notext", "-config", self.config, "-extfile", self.path("extensions"), *dates,
                "-in", self.path("request"), "-out", pem)
        os.chmod(key, 0o600)
        return pem, key


class Tls:
    """What makes a node speak TLS on `tls_port`, with the certificate that show() chose last. Stands before its class."""

    def __init__(self):
        self.pki = tempfile.mkdtemp(prefix="warren-pki-")
        self.authority = Authority(self.pki, "ours")
        self.other = Authority(self.pki, "theirs")
        self.right = self.authority.issue("right", "localhost")
        self.tls_port = harness.closed_port()
        self.certificate, self.key = os.path.join(self.pki, "server.pem"), os.path.join(self.pki, "server.key")
        self.put(self.right)
        conf = os.path.join(self.pki, "conf")
        with open(conf, "w") as out:
            out.write(f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
                      f"ssl_options.cacertfile = {self.authority.file}\n"
                      f"ssl_options.certfile = {self.certificate}\n"
                      f"ssl_options.keyfile = {self.key}\n"
                      "ssl_options.verify = verify_peer\n"
                      "ssl_options.fail_if_no_peer_cert = false\n"
                      "auth_mechanisms.1 = PLAIN\n"
                      "auth_mechanisms.2 = EXTERNAL\n"
                      "ssl_cert_login_from = common_name\n")
        super().__init__(settings=["--conf", conf, "--plugin", "rabbitmq_auth_mechanism_ssl"])

    def remove(self):
        super().remove()
        shutil.rmtree(self.pki, ignore_errors=True)

    def put(self, pair):
        for source, target in zip(pair, (self.certificate, self.key)):
            shutil.copy(source, target + ".new")
            os.rename(target + ".new", target)

    def show(self, pair):
        """From now on the node shows this certificate to whoever connects."""
        self.put(pair)
        self.ctl("eval", "ssl:clear_pem_cache().")

    def tls_url(self, vhost, host="localhost", login=harness.canary.LOGIN):
        return f"amqps://{login}@{host}:{self.tls_port}/{vhost}"


class TlsNode(Tls, harness.Node):
    pass


class StandIn:
    """A listener that treats each connection by `serve(socket)`, and keeps the first byte that came in on each."""

    def __init__(self, serve):
        self.serve = serve
        self.first = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                with client:
                    client.settimeout(10)
                    with contextlib.suppress(OSError):
                        self.first.append(client.recv(1, socket.MSG_PEEK))
                        self.serve(client)

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()


def reset(client):
    """RST in the middle of the handshake."""
    client.recv(4096)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang_up(client):
    client.recv(4096)


def say_nothing(client):
    while client.recv(4096):
        pass


def handshake(pair, authority=None, version=None):
    """A server that speaks TLS and no AMQP: only that version, only with clients that the authority has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    if version:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
    if authority:
        context.load_verify_locations(authority.file)
        context.verify_mode = ssl.CERT_REQUIRED

    def serve(client):
        with context.wrap_socket(client, server_side=True, do_handshake_on_connect=False) as secure:
            try:
                secure.do_handshake()
            except ssl.SSLError:
                secure.shutdown(socket.SHUT_WR)  # unread bytes would make it a reset, which overtakes the alert
                while secure.recv(4096):
                    pass
    return serve
