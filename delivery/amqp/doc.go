// Package amqp delivers events to AMQP 0-9-1 brokers such as RabbitMQ.
//
// Messages are persistent and mandatory, on a channel in confirm mode: an
// attempt is delivered when the broker has confirmed it and has not returned
// it as unroutable. CloudEvents has a binding for AMQP 1.0 only; Tocsin follows
// its naming. In structured mode the body is the event in the JSON format and
// content-type is application/cloudevents+json; in binary mode the body is the
// event's data, content-type its datacontenttype, and each other attribute a
// header "cloudEvents_" + name. In both modes the property message-id is the
// event's id, by which a consumer can drop repeats.
//
// Confirms come back out of order under load, but messages keep the order in
// which they were published on the one channel; an ordered subscription
// publishes one at a time.
package amqp
