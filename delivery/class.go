package delivery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"syscall"

	"tocsin.dev/tocsin/internal/safehttp"
)

// Class says why an attempt ended as it did. It is closed: these constants
// are all there are, so that it can be a metric label.
type Class string

// The classes. Every failure except rejected, gone and canceled is retried on
// the subscription's schedule; every failure except throttled, rejected,
// unreadable and canceled counts against its breaker.
const (
	// ClassDelivered: the far side has it.
	ClassDelivered Class = "delivered"
	// ClassRetry: the far side refused it this time, as with an HTTP status
	// that is not 2xx, an AMQP nack, or a STOMP ERROR frame.
	ClassRetry Class = "retry"
	// ClassRejected: this message can never be delivered here, as when it is
	// over the broker's size limit. It becomes a dead letter at once and says
	// nothing about the target's health.
	ClassRejected Class = "rejected"
	// ClassGone: the far side wants nothing ever again (HTTP 410). The
	// subscription is disabled.
	ClassGone Class = "gone"
	// ClassThrottled: the far side asked for less (HTTP 429, a blocked broker
	// connection). No failure to the breaker.
	ClassThrottled Class = "throttled"
	// ClassUnroutable: the broker has nowhere to put it (AMQP basic.return).
	ClassUnroutable Class = "unroutable"
	// ClassBlocked: the address is one that Tocsin must not call.
	ClassBlocked Class = "blocked"
	// ClassTimeout: no answer in time.
	ClassTimeout Class = "timeout"
	// ClassDNS: the name did not resolve.
	ClassDNS Class = "dns"
	// ClassConnect: no connection, or it broke.
	ClassConnect Class = "connect"
	// ClassTLS: the handshake or a certificate failed.
	ClassTLS Class = "tls"
	// ClassAuth: credentials refused (HTTP 401 and 403, a broker's login).
	ClassAuth Class = "auth"
	// ClassRedirect: an HTTP redirect, which is not followed.
	ClassRedirect Class = "redirect"
	// ClassInvalid: settings that cannot work, such as a URL that does not
	// parse or a secret that is no key.
	ClassInvalid Class = "invalid"
	// ClassUnreadable: the event itself could not be read, and nothing was
	// sent. It says nothing about the target's health.
	ClassUnreadable Class = "unreadable"
	// ClassCanceled: given up because the process is ending. It uses up no
	// attempt.
	ClassCanceled Class = "canceled"
)

// classified is an error that knows its class.
type classified struct {
	class Class
	err   error
}

func (e *classified) Error() string { return e.err.Error() }
func (e *classified) Unwrap() error { return e.err }

// Failed wraps err so that [Classify] calls it class.
func Failed(class Class, err error) error { return &classified{class, err} }

// ErrBlocked is wrapped by the error of a dialer that refuses an address, if
// it is not internal/safehttp's.
var ErrBlocked = errors.New("address not allowed")

// Classify finds the class of an error from opening a target, from the
// network or from a context. A nil error is delivered; what it does not know
// is connect.
func Classify(err error) Class {
	if err == nil {
		return ClassDelivered
	}
	if e, ok := errors.AsType[*classified](err); ok {
		return e.class
	}
	if blocked(err) {
		return ClassBlocked
	}
	if tlsFailure(err) {
		return ClassTLS
	}
	if errors.Is(err, context.Canceled) {
		return ClassCanceled
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT) {
		return ClassTimeout
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		if e.IsTimeout {
			return ClassTimeout
		}
		return ClassDNS
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return ClassTimeout
	}
	return ClassConnect
}

// blocked knows the guard's refusals: of an address, and of a host spelled so
// that resolvers disagree about it.
func blocked(err error) bool {
	if _, ok := errors.AsType[*safehttp.BlockedError](err); ok {
		return true
	}
	_, ok := errors.AsType[*safehttp.URLError](err)
	return ok || errors.Is(err, ErrBlocked)
}

func tlsFailure(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return true
	}
	// A certificate alert of the peer arrives as a net.OpError of the
	// operation "remote error" with an unexported cause.
	e, ok := errors.AsType[*net.OpError](err)
	return ok && (e.Op == "remote error" || e.Op == "local error")
}
