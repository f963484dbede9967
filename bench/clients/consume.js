// Consumes with amqplib: consume.js URL QUEUE N, one connection, N channels.
'use strict';

const amqp = require('amqplib');

function fail(error) {
  console.error(`consume.js: ${error.message}`);
  process.exit(1);
}

async function consume(connection, queue) {
  const channel = await connection.createChannel();
  channel.on('error', fail);
  await channel.prefetch(1);
  await channel.consume(queue, (message) => {
    if (message === null) {
      fail(new Error('the broker has ended the deliveries'));
    }
    channel.ack(message);
  });
}

async function main([url, queue, count]) {
  const connection = await amqp.connect(url);
  connection.on('error', fail);
  connection.on('close', () => fail(new Error('the connection is closed')));
  for (let i = 0; i < Number(count); i++) {
    await consume(connection, queue);
  }
}

main(process.argv.slice(2)).catch(fail);
