package safehttp

import (
	"fmt"
	"net/netip"
)

// BlockedError says that the guard refused an address. It is found with
// [errors.As] in whatever error the dial or the request returned, and it is
// permanent: trying again without another configuration fails again.
type BlockedError struct {
	// Addr is the address that was refused.
	Addr netip.Addr
	// Why names the kind of network, as in "a loopback address".
	Why string
	// Key is the configuration key whose list would permit the address.
	Key string
	// Resolved says that Addr is what a name resolved to. The message does not tell
	// it then: who gave the name may not be meant to know.
	Resolved bool
}

// Error implements error; it ends in a hint that names the configuration key.
func (e *BlockedError) Error() string {
	if e.Resolved {
		return fmt.Sprintf("refused to connect: the host has %s (to permit it, add its network to %s)", e.Why, e.Key)
	}
	return fmt.Sprintf("refused to connect to %v: it is %s (to permit it, add its network to %s)", e.Addr, e.Why, e.Key)
}

// URLError says what is wrong with a URL or host somebody configured.
type URLError struct {
	// Field is the part at fault: "url", "scheme", "userinfo", "host" or "port".
	Field string
	// Reason is a sentence without the URL itself, which may hold secrets.
	Reason string
}

// Error implements error.
func (e *URLError) Error() string { return e.Field + ": " + e.Reason }

// TooLargeError says that a response body was longer than the client's limit.
type TooLargeError struct {
	Limit int64 // in bytes
}

// Error implements error.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("response body is longer than the limit of %d bytes", e.Limit)
}

// RedirectError says why a redirect was not followed.
type RedirectError struct {
	Reason string
}

// Error implements error.
func (e *RedirectError) Error() string { return "redirect refused: " + e.Reason }
