package main

import (
	"runtime"
	"runtime/debug"

	"tocsin.dev/tocsin/internal/cli"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

// version is set by the linker; a build without it takes the module's.
var version = ""

// actions are what the program does besides talking to a server.
func actions() cli.Actions {
	return cli.Actions{Version: buildVersion()}
}

// buildVersion is what the Go toolchain recorded of this build.
func buildVersion() v1.Version {
	v := v1.Version{Version: version, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if v.Version == "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Commit = s.Value[:min(12, len(s.Value))]
		}
	}
	for _, d := range info.Deps {
		if d.Path == "github.com/quay/claircore" {
			v.Claircore = d.Version
		}
	}
	return v
}
