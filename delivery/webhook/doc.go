// Package webhook delivers events over HTTP, as the CloudEvents HTTP binding
// (structured, binary and batched content mode) signed as Standard Webhooks
// says, with the CloudEvents webhook handshake where a subscription asks for
// it.
//
// Every request carries webhook-id, webhook-timestamp and, where the
// subscription has secrets, webhook-signature with one signature a secret
// ("v1" HMAC-SHA256 for whsec_, "v1a" ed25519 for whsk_), separated by
// spaces. webhook-id is the event's id, the same in every attempt and replay.
// A batch's is "batch_" and the first 32 hexadecimal digits of the SHA-256 of
// its event ids, each followed by a newline: the same events in the same order
// have the same id. The signature covers the body: in binary mode that leaves
// the ce- headers out, which is why structured is the default.
//
// Any 2xx status is success. Redirects are not followed and are failures. 410
// is final; 429 and 503 obey Retry-After. Of an answer's body, a little is
// read and kept; one that is long or slow is cut off.
//
// It does not use proxies, and it connects only through the dial function it
// is given, which is where forbidden addresses are refused.
package webhook
