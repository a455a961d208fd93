package updater

import "testing"

// FuzzRequest holds the reader of update requests to an answer for every message.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{`{"set":"osv"}`, `{}`, ``, `{"set":1}`, `{"sets":[]}`, `{"set":"a"}{}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = parseRequest(data) })
}

// FuzzSchedule holds schedules to a time after now, or a refusal.
func FuzzSchedule(f *testing.F) {
	for _, seed := range []string{"@every 6h", "0 3 * * *", "off", "@daily", "CRON_TZ=Europe/Berlin 0 3 * * *", "* * 31 2 *"} {
		f.Add(seed)
	}
	f.Fuzz(func(_ *testing.T, spec string) { _, _ = parseSchedule(spec) })
}
