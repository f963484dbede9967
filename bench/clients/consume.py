"""Consumes with pika: consume.py URL QUEUE N, one BlockingConnection, N channels."""

import sys

import pika


def on_message(channel, method, _properties, _body):
    channel.basic_ack(method.delivery_tag)


def main():
    url, queue, count = sys.argv[1:]
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channels = [connection.channel() for _ in range(int(count))]
    for channel in channels:
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(queue, on_message)
    channels[0].start_consuming()  # serves them all, until its own consumer is cancelled
    sys.exit("consume.py: the broker has ended the deliveries")


if __name__ == "__main__":
    main()
