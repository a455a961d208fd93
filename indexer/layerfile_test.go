package indexer

import "testing"

func TestMaxFile(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int64{
		"opt/app.jar": maxArchiveBytes, "etc/os-release": maxRecordBytes, "lib/apk/db/installed": maxRecordBytes,
		"srv/package.json": maxRecordBytes, "root/buildinfo/labels.json": maxRecordBytes, "usr/bin/app": 1 << 62, "model.bin": 1 << 62,
	} {
		if got := maxFile(name); got != want {
			t.Errorf("%s may have %d bytes, want %d", name, got, want)
		}
	}
}
