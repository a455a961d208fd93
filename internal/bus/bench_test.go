package bus_test

import (
	"fmt"
	"strconv"
	"testing"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/bus/bustest"
)

// Every message is synced to disk before it is acknowledged, so this measures
// the disk of the temporary directory as much as the server.
func BenchmarkPublish(b *testing.B) {
	for _, size := range []int{1, 256} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			c := bustest.New(b)
			msgs := make([]bus.Message, size)
			n := 0
			for b.Loop() {
				for i := range msgs {
					n++
					msgs[i] = bus.Message{Subject: bus.SubjectEvents + "ping.v1", ID: fmt.Sprint(n), Data: make([]byte, 2048)}
				}
				if err := c.PublishBatch(b.Context(), msgs); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
