#!/usr/bin/python3
"""Sends one message to the topic exchange test3: emit_log_topic.py ROUTING_KEY MESSAGE"""
import os
import sys

import pika

routing_key, message = sys.argv[1:]
connection = pika.BlockingConnection(pika.URLParameters(os.environ["WARREN_URL"]))
channel = connection.channel()
channel.exchange_declare(exchange="test3", exchange_type="topic")
channel.basic_publish(exchange="test3", routing_key=routing_key, body=message)
print(f" [x] Sent {routing_key!r}:{message!r}")
connection.close()
