#!/usr/bin/python3
"""Sends its arguments to everybody who listens to the fanout exchange test."""
import os
import sys

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ["WARREN_URL"]))
channel = connection.channel()
channel.exchange_declare(exchange="test", exchange_type="fanout")
for message in sys.argv[1:]:
    channel.basic_publish(exchange="test", routing_key="", body=message)
    print(f" [x] Sent {message!r}")
connection.close()
