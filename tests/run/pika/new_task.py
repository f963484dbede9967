#!/usr/bin/python3
"""Sends tasks, as persistent messages, to a durable queue: new_task.py QUEUE TASK..."""
import os
import sys

import pika

queue, *tasks = sys.argv[1:]
connection = pika.BlockingConnection(pika.URLParameters(os.environ["WARREN_URL"]))
channel = connection.channel()
channel.queue_declare(queue=queue, durable=True)
for task in tasks:
    channel.basic_publish(exchange="", routing_key=queue, body=task,
                          properties=pika.BasicProperties(delivery_mode=2))
    print(f" [x] Sent {task!r}")
connection.close()
