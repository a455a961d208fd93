// Package nats delivers events to NATS servers, after the CloudEvents NATS
// binding: in structured mode the payload is the event in the JSON format and
// the header content-type says so; in binary mode the payload is the event's
// data and each attribute a header "ce-" + name.
//
// With protocolsettings.jetstream an attempt is delivered when a stream has
// acknowledged it, and Nats-Msg-Id is the event's id, so that the stream drops
// repeats. Without it, an attempt is delivered when the server has taken the
// message: core NATS gives it to those who listen at that moment and to nobody
// else.
package nats
