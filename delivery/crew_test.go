package delivery

import (
	"testing"

	"pgregory.net/rapid"
)

// However lanes take up and end attempts, each may have one, and those beyond
// it are as many as the budget allows.
func TestCrew(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		permits := rapid.IntRange(0, 6).Draw(t, "permits")
		b := newBudget(permits)
		crews := make([]crew, rapid.IntRange(1, 4).Draw(t, "lanes"))
		for i := range crews {
			crews[i].budget = b
		}
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			c := &crews[rapid.IntRange(0, len(crews)-1).Draw(t, "lane")]
			most := rapid.IntRange(1, 5).Draw(t, "most")
			extra := 0
			for i := range crews {
				extra += max(crews[i].busy-1, 0)
			}
			if rapid.Bool().Draw(t, "hire") {
				want := c.busy < most && (c.busy == 0 || extra < permits)
				if got := c.hire(most); got != want {
					t.Fatalf("hired %v, want %v: %d busy of %d, %d extra of %d", got, want, c.busy, most, extra, permits)
				}
			} else if c.busy > 0 {
				c.dismiss()
			}
		}
		for i := range crews {
			for crews[i].busy > 0 {
				crews[i].dismiss()
			}
		}
		if left := b.left.Load(); left != int64(permits) {
			t.Fatalf("%d permits in the end, want %d", left, permits)
		}
	})
}
