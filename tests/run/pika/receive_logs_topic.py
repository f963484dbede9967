#!/usr/bin/python3
"""Prints what is sent to the topic exchange test3 with one of its binding keys: receive_logs_topic.py KEY..."""
import os
import sys

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ["WARREN_URL"]))
channel = connection.channel()
channel.exchange_declare(exchange="test3", exchange_type="topic")
queue_name = channel.queue_declare(queue="", exclusive=True).method.queue
for key in sys.argv[1:]:
    channel.queue_bind(exchange="test3", queue=queue_name, routing_key=key)


def callback(ch, method, properties, body):
    print(f" [x] {method.routing_key}:{body.decode()}", flush=True)


channel.basic_consume(queue=queue_name, on_message_callback=callback, auto_ack=True)
print(" [*] Waiting for logs", flush=True)
channel.start_consuming()
