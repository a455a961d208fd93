// Package app is the composition root: it makes the roles out of a
// configuration, wires them to one another and to the HTTP interfaces, and
// starts and stops it all in order. It is the one package that knows every
// other; nothing but the program imports it.
//
// The roles meet only through Postgres and JetStream. Every process has all
// the services, so that its API can answer everything; the configuration says
// which roles' loops it runs.
package app
