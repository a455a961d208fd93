// Package broker is what the targets for message brokers (AMQP, STOMP, NATS)
// have in common: reading a subscription's settings, the list of brokers to
// fail over between, one shared connection that is made again when it breaks,
// templates for destinations, and the names of CloudEvents attributes in
// headers.
//
// It knows no protocol. It never logs, and its errors show addresses without
// credentials.
package broker
