// Package protocols lists the protocols that events can be delivered over. It
// checks subscriptions against them, names the settings that they have
// together, and opens their targets.
//
// What [Checker.Check] accepts, the protocol can open: it asks the protocol's
// own code. It makes no connection, and it can't know what the far side thinks
// of a login, a queue or a certificate.
package protocols
