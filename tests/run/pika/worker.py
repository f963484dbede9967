#!/usr/bin/python3
"""Works off a durable queue, one task at a time, and acknowledges each when it is done: worker.py QUEUE"""
import os
import sys

import pika

queue = sys.argv[1]
connection = pika.BlockingConnection(pika.URLParameters(os.environ["WARREN_URL"]))
channel = connection.channel()
channel.queue_declare(queue=queue, durable=True)


def callback(ch, method, properties, body):
    print(f" [x] Received {body.decode()!r}", flush=True)
    connection.sleep(body.count(b".") / 10)
    ch.basic_ack(delivery_tag=method.delivery_tag)


channel.basic_qos(prefetch_count=1)
channel.basic_consume(queue=queue, on_message_callback=callback)
print(" [*] Waiting for messages", flush=True)
channel.start_consuming()
