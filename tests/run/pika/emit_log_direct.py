#!/usr/bin/python3
"""Sends one message to the direct exchange test2: emit_log_direct.py SEVERITY MESSAGE"""
import os
import sys

import pika

severity, message = sys.argv[1:]
connection = pika.BlockingConnection(pika.URLParameters(os.environ["WARREN_URL"]))
channel = connection.channel()
channel.exchange_declare(exchange="test2", exchange_type="direct")
channel.basic_publish(exchange="test2", routing_key=severity, body=message)
print(f" [x] Sent {severity!r}:{message!r}")
connection.close()
