#!/usr/bin/python3
"""Who may have written what warrend trusts, and who may read its secrets: 77 with path and mode, as root and as others."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import unittest

import canary
from broker_fixture import BUILD

NOBODY, DAEMON = 65534, 1
CONFIG = """broker = {{ urls = [ "amqp://127.0.0.1:1/%2f" ]; }};
plugins = {{ directory = "{folder}/plugins"; load = ( {{ file = "upper.so"; }} ); }};
queues = ( {{ name = "work"; task = "text.upper"; }} );
"""
WITH_PASSWORD = CONFIG.replace("amqp://", f"amqp://{canary.LOGIN}@")
WITH_FILE = CONFIG.replace("amqp://", "amqp://u@").replace("]; }}", ']; password_file = "{folder}/secrets/password"; }}', 1)


def is_root():
    return os.geteuid() == 0


class FilesTest(unittest.TestCase):
    """A folder /tmp/x with all that warrend needs; whoever runs it, the program is a copy that all may read."""

    user = None

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="warren-test-")
        self.addCleanup(shutil.rmtree, self.folder)
        os.chmod(self.folder, 0o755)
        for name in ("plugins", "secrets"):
            os.mkdir(self.path(name))
            os.chmod(self.path(name), 0o755)
        shutil.copy(os.path.join(BUILD, "lib", "warren", "plugins", "upper.so"), self.path("plugins/upper.so"))
        shutil.copy(os.path.join(BUILD, "src", "warrend"), self.path("warrend"))
        for name in ("plugins/upper.so", "warrend"):
            os.chmod(self.path(name), 0o755)
        self.put("secrets/password", canary.PASSWORD + "\n", 0o640)
        self.put("warren.cfg", CONFIG.format(folder=self.folder))

    def path(self, name):
        return os.path.join(self.folder, name)

    def put(self, name, text, mode=0o644):
        with open(self.path(name), "w") as file:
            file.write(text)
        os.chmod(self.path(name), mode)

    def run_warrend(self, *args, user=None):
        prefix = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups"] if user else []
        done = subprocess.run([*prefix, self.path("warrend"), *args, "-c", self.path("warren.cfg")],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=60, cwd="/", env={**os.environ, "RUNTIME_DIRECTORY": self.folder})
        self.assertFalse(canary.sings(done.stdout), "the password is shown")
        return done

    def is_fine(self, user=None):
        done = self.run_warrend("-t", user=user)
        self.assertEqual((done.returncode, done.stdout.splitlines()[-1:]),
                         (0, [f"configuration {self.path('warren.cfg')} is fine"]), done.stdout)

    def is_refused(self, *words, user=None):
        """Checked, and started: 77, and every one of the words, which hold path and mode."""
        for args in (["-t"], []):
            done = self.run_warrend(*args, user=user)
            self.assertEqual(done.returncode, 77, done.stdout)
            for word in words:
                self.assertIn(word, done.stdout)

    @contextlib.contextmanager
    def mode(self, name, mode):
        before = os.stat(self.path(name)).st_mode & 0o7777
        os.chmod(self.path(name), mode)
        yield
        os.chmod(self.path(name), before)

    @contextlib.contextmanager
    def owner(self, name, owner):
        os.chown(self.path(name), owner, owner, follow_symlinks=False)
        yield
        os.chown(self.path(name), os.geteuid(), os.getegid(), follow_symlinks=False)


class Modes(FilesTest):
    def test_what_others_may_write(self):
        self.put("warren.cfg", WITH_FILE.format(folder=self.folder))
        self.is_fine()
        for name, mode in (("warren.cfg", 0o646), ("plugins/upper.so", 0o757), ("secrets/password", 0o642),
                           (".", 0o777), ("plugins", 0o757), ("secrets", 0o757)):
            with self.subTest(name), self.mode(name, mode):
                self.is_refused(f"{os.path.normpath(self.path(name))} (mode {mode:04o}) is writable by others")
        for name in (".", "plugins", "secrets"):
            with self.subTest(name), self.mode(name, 0o1777):
                self.is_fine()

    def test_what_others_may_read(self):
        self.put("warren.cfg", WITH_PASSWORD.format(folder=self.folder), 0o600)
        self.is_fine()
        with self.mode("warren.cfg", 0o604):
            self.is_refused(f"{self.path('warren.cfg')} (mode 0604) holds a password")
        self.put("warren.cfg", WITH_FILE.format(folder=self.folder))
        self.is_fine()
        with self.mode("secrets/password", 0o604):
            self.is_refused(f"{self.path('secrets/password')} (mode 0604) holds a secret")

    def test_links(self):
        for name in ("warren.cfg", "plugins/upper.so", "secrets/password"):
            self.put("warren.cfg", WITH_FILE.format(folder=self.folder))
            with self.subTest(name):
                os.mkdir(self.path("elsewhere"))
                os.rename(self.path(name), self.path("elsewhere/true"))
                os.symlink("true", self.path("elsewhere/link"))
                os.symlink(self.path("elsewhere/link"), self.path(name))
                self.is_fine()
                with self.mode("elsewhere", 0o777):
                    self.is_refused(f"{self.path('elsewhere')} (mode 0777) is writable by others")
                with self.mode("elsewhere/true", 0o662):
                    self.is_refused(f"{self.path('elsewhere/true')} (mode 0662) is writable by others")
                os.unlink(self.path(name))
                os.rename(self.path("elsewhere/true"), self.path(name))
                shutil.rmtree(self.path("elsewhere"))

    def test_what_is_no_file(self):
        os.unlink(self.path("plugins/upper.so"))
        os.mkfifo(self.path("plugins/upper.so"))
        self.is_refused("is not a regular file")

    def test_access_lists(self):
        if not shutil.which("setfacl"):
            self.skipTest("setfacl is not installed")
        for name in ("warren.cfg", "plugins/upper.so", "plugins"):
            with self.subTest(name):
                done = subprocess.run(["setfacl", "-m", f"u:{NOBODY}:rwx", self.path(name)], check=False)
                if done.returncode != 0:
                    self.skipTest("no access lists here")
                self.is_refused(f"{self.path(name)} (mode 0", "is writable by others")
                subprocess.run(["setfacl", "-b", self.path(name)], check=True)


@unittest.skipUnless(is_root(), "needs root to be others")
class Owners(FilesTest):
    def test_what_belongs_to_others(self):
        self.put("warren.cfg", WITH_FILE.format(folder=self.folder))
        for name in ("warren.cfg", "plugins/upper.so", "secrets/password", ".", "plugins", "secrets"):
            with self.subTest(name), self.owner(name, NOBODY):
                self.is_refused(f"{os.path.normpath(self.path(name))} (mode ", f"belongs to user {NOBODY}")

    def test_in_a_sticky_folder_the_entry_counts(self):
        with self.mode("plugins", 0o1777), self.owner("plugins/upper.so", NOBODY):
            self.is_refused(f"{self.path('plugins/upper.so')} (mode 0755) belongs to user {NOBODY}")
        os.rename(self.path("plugins/upper.so"), self.path("upper.so"))
        os.symlink("../upper.so", self.path("plugins/upper.so"))
        with self.mode("plugins", 0o1777):
            self.is_fine()
            with self.owner("plugins/upper.so", NOBODY):
                self.is_refused(f"{self.path('plugins/upper.so')} (mode 0777) belongs to user {NOBODY}")

    def test_somebody_else_trusts_root_and_himself(self):
        self.is_fine(user=NOBODY)
        for name in ("warren.cfg", "plugins/upper.so", ".", "plugins"):
            with self.subTest(name):
                with self.owner(name, NOBODY):
                    self.is_fine(user=NOBODY)
                with self.owner(name, DAEMON):
                    self.is_refused(f"{os.path.normpath(self.path(name))} (mode ", f"belongs to user {DAEMON}",
                                    user=NOBODY)

    def test_what_cannot_be_read(self):
        self.put("warren.cfg", WITH_FILE.format(folder=self.folder))
        os.chown(self.path("secrets/password"), -1, NOBODY)
        self.is_fine(user=NOBODY)
        for name, mode in (("warren.cfg", 0o600), ("secrets/password", 0o600), ("plugins/upper.so", 0o700),
                           ("plugins", 0o700), ("secrets", 0o700)):
            with self.subTest(name), self.mode(name, mode):
                self.is_refused(self.path(name), "Permission denied", user=NOBODY)


if __name__ == "__main__":
    unittest.main()
