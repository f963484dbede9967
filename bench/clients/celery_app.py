"""Consumes with Celery: celery_app.py URL QUEUE N, N processes of its pool that run a task that does nothing."""

import ctypes
import signal
import sys

import celery
import celery.signals
import kombu

PR_SET_PDEATHSIG = 1


@celery.signals.worker_process_init.connect
def end_with_parent(**_):
    """A parent that is killed would leave its processes behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def noop(_text):
    pass


def main():
    url, queue, count = sys.argv[1:]
    app = celery.Celery(broker=url)
    app.conf.update(
        task_acks_late=True, task_ignore_result=True, worker_prefetch_multiplier=1, worker_enable_remote_control=False,
        task_default_queue=queue, task_queues=[kombu.Queue(queue, no_declare=True)])
    app.task(noop, name="bench.noop")
    app.worker_main(["worker", "--pool", "prefork", "--concurrency", count, "--loglevel", "ERROR",
                     "--without-gossip", "--without-mingle", "--without-heartbeat"])


if __name__ == "__main__":
    main()
