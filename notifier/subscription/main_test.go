package subscription

import (
	"bytes"
	"testing"

	"tocsin.dev/tocsin/delivery/protocols"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/internal/secrets"
	"tocsin.dev/tocsin/notifier/filter"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// newStore is a store on a database of its own.
func newStore(t testing.TB, change ...func(*Options)) *Store {
	t.Helper()
	keys, err := secrets.New(bytes.Repeat([]byte{7}, secrets.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	filters, err := filter.NewCompiler(filter.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Pool: postgrestest.New(t), Filters: filters, Keyring: keys, Sinks: protocols.Checker{}}
	for _, c := range change {
		c(&o)
	}
	st, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// fieldsOf are the fields that err refuses.
func fieldsOf(err error) ([]problem.Field, bool) {
	fields := problem.Fields(err)
	return fields, len(fields) > 0
}

func count(t testing.TB, st *Store) (n int) {
	t.Helper()
	if err := st.Pool.QueryRow(t.Context(), `SELECT count(*) FROM tocsin.subscription`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
