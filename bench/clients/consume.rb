# Consumes with Bunny: consume.rb URL QUEUE N, one connection, N channels with a thread each.
require 'bunny'

url, name, count = ARGV
connection = Bunny.new(url, automatically_recover: false)
connection.start
count.to_i.times do
  channel = connection.create_channel
  channel.prefetch(1)
  queue = channel.queue(name, passive: true)
  queue.subscribe(manual_ack: true) { |delivery, _properties, _body| channel.ack(delivery.delivery_tag) }
end
sleep
