#!/usr/bin/python3
"""Prints what arrives in the transient queue hello_1; the broker forgets each message as it is delivered."""
import os

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ["WARREN_URL"]))
channel = connection.channel()
channel.queue_declare(queue="hello_1")


def callback(ch, method, properties, body):
    print(f" [x] Received {body.decode()!r}", flush=True)


channel.basic_consume(queue="hello_1", on_message_callback=callback, auto_ack=True)
print(" [*] Waiting for messages", flush=True)
channel.start_consuming()
