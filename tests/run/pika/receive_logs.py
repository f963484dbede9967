#!/usr/bin/python3
"""Prints what is sent to the fanout exchange test."""
import os

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ["WARREN_URL"]))
channel = connection.channel()
channel.exchange_declare(exchange="test", exchange_type="fanout")
queue_name = channel.queue_declare(queue="", exclusive=True).method.queue
channel.queue_bind(exchange="test", queue=queue_name)


def callback(ch, method, properties, body):
    print(f" [x] {body.decode()}", flush=True)


channel.basic_consume(queue=queue_name, on_message_callback=callback, auto_ack=True)
print(" [*] Waiting for logs", flush=True)
channel.start_consuming()
