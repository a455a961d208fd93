// Package targettest holds every target for a message broker to one suite,
// against real servers that it starts for the test: RabbitMQ with its STOMP
// plugin, ActiveMQ, and a NATS server.
//
// Its servers listen on free loopback ports, keep their data in a directory of
// their own, and end with the test. It is for tests alone.
package targettest
