package uuid7_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/uuid7"
)

func TestTimeAndOrder(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 7, 1, 12, 0, 0, 123_456_789, time.UTC)
	floor, id := uuid7.Floor(at), uuid7.At(at)
	for _, u := range []uuid.UUID{floor, id, uuid7.New()} {
		if u.Version() != 7 || u.Variant() != uuid.RFC4122 {
			t.Errorf("%s has version %d", u, u.Version())
		}
	}
	if got := uuid7.Time(id); got != at.Truncate(time.Millisecond) || uuid7.Time(floor) != got {
		t.Errorf("%s is of %v, its floor of %v", id, got, uuid7.Time(floor))
	}
	later := uuid7.At(at.Add(time.Microsecond))
	if bytes.Compare(floor[:], id[:]) > 0 || bytes.Compare(id[:], later[:]) >= 0 {
		t.Errorf("order is %s, %s, %s", floor, id, later)
	}
	if got := uuid7.Floor(time.Unix(-1, 0)); got != uuid.Nil {
		t.Errorf("before 1970: %s", got)
	}
	if d := time.Since(uuid7.Time(uuid7.New())); d < -time.Second || d > time.Second {
		t.Errorf("a new one is %v old", d)
	}
}
