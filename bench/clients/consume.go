// Consumes with amqp091-go: consume URL QUEUE N, one connection, N channels with a goroutine each.
package main

import (
	"fmt"
	"os"
	"strconv"

	amqp "github.com/rabbitmq/amqp091-go"
)

func fail(err error) {
	fmt.Fprintln(os.Stderr, "consume.go:", err)
	os.Exit(1)
}

func consume(conn *amqp.Connection, queue string) {
	channel, err := conn.Channel()
	if err != nil {
		fail(err)
	}
	if err := channel.Qos(1, 0, false); err != nil {
		fail(err)
	}
	deliveries, err := channel.Consume(queue, "", false, false, false, false, nil)
	if err != nil {
		fail(err)
	}
	for delivery := range deliveries {
		if err := delivery.Ack(false); err != nil {
			fail(err)
		}
	}
	fail(fmt.Errorf("the broker has ended the deliveries"))
}

func main() {
	if len(os.Args) != 4 {
		fail(fmt.Errorf("usage: consume URL QUEUE N"))
	}
	count, err := strconv.Atoi(os.Args[3])
	if err != nil {
		fail(err)
	}
	conn, err := amqp.Dial(os.Args[1])
	if err != nil {
		fail(err)
	}
	for i := 0; i < count; i++ {
		go consume(conn, os.Args[2])
	}
	select {}
}
