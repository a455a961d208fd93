// Package uuid7 makes and reads version 7 UUIDs (RFC 9562), whose order is that
// of time: 48 bits of milliseconds, twelve bits of their fraction, random bits.
// The database's tocsin.uuidv7 and tocsin.uuidv7_floor agree with it bit for bit.
package uuid7

import (
	"encoding/binary"
	"time"

	"github.com/google/uuid"
)

// New is a UUID of this moment, above all that this process made before.
func New() uuid.UUID { return uuid.Must(uuid.NewV7()) } // its randomness never fails

// At is a new UUID of a moment, exact to a quarter of a microsecond (RFC 9562,
// section 6.2, method 3).
func At(t time.Time) uuid.UUID {
	id := uuid.New()
	floor := Floor(t)
	copy(id[:6], floor[:6])
	fraction := t.Nanosecond() % 1e6 * 4096 / 1e6
	id[6], id[7] = 0x70|byte(fraction>>8), byte(fraction)
	return id
}

// Floor is the smallest UUID of t's millisecond; the smallest of all before 1970.
func Floor(t time.Time) uuid.UUID {
	var id uuid.UUID
	ms := t.UnixMilli()
	if ms < 0 {
		return id
	}
	binary.BigEndian.PutUint64(id[:8], uint64(ms)<<16|0x7000)
	id[8] = 0x80
	return id
}

// Time is when a UUID was made, exact to a millisecond, in UTC.
func Time(id uuid.UUID) time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16)).UTC()
}
