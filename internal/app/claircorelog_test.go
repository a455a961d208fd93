package app

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestClaircoreIsHeardFromWarningsOn(t *testing.T) {
	t.Parallel()
	for level, want := range map[slog.Level]string{slog.LevelInfo: "careful", slog.LevelDebug: "detail careful"} {
		var out bytes.Buffer
		log := slog.New(claircoreLog{slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level})}).With("a", 1).WithGroup("g")
		log.Info("detail")
		log.Warn("careful")
		var said []string
		for _, m := range []string{"detail", "careful"} {
			if strings.Contains(out.String(), "msg="+m) {
				said = append(said, m)
			}
		}
		if got := strings.Join(said, " "); got != want {
			t.Errorf("at level %s it says %q, want %q", level, got, want)
		}
	}
}
