// Package stomp delivers events to STOMP 1.2 brokers such as RabbitMQ (with
// its STOMP plugin) and ActiveMQ.
//
// Every SEND asks for a receipt and carries persistent:true; an attempt is
// delivered when the broker's RECEIPT for it has come. There is no CloudEvents
// binding for STOMP: Tocsin follows the AMQP binding's rule. In structured
// mode the body is the event in the JSON format and content-type is
// application/cloudevents+json; in binary mode the body is the event's data,
// content-type its datacontenttype, and each other attribute a header
// "cloudEvents_" + name. Both modes carry the event's id in the header
// "message-key", by which a consumer can drop repeats ("message-id" is the
// broker's own).
//
// A connection carries one message at a time; a target opens up to eight of
// them, one when the subscription is ordered.
package stomp
