#!/usr/bin/python3
"""Sends its arguments to the transient queue hello_1."""
import os
import sys

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ["WARREN_URL"]))
channel = connection.channel()
channel.queue_declare(queue="hello_1")
for body in sys.argv[1:]:
    channel.basic_publish(exchange="", routing_key="hello_1", body=body)
    print(f" [x] Sent {body!r}")
connection.close()
