package ecosystem

import (
	"slices"
	"testing"

	"github.com/quay/claircore"
)

// installedIn is what an image has, as "name@version arch of source@version".
func installedIn(t *testing.T, layers ...layerFiles) []string {
	t.Helper()
	_, r := indexed(t, layers)
	out := []string{}
	for _, p := range r.Packages {
		s := p.Name + "@" + p.Version + " " + p.Arch
		if p.Source != nil && p.Source.Name != "" {
			s += " of " + p.Source.Name + "@" + p.Source.Version
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

func equal(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

func TestDpkg(t *testing.T) {
	t.Parallel()
	const ok = "Status: install ok installed\n"
	status := entry{name: "var/lib/dpkg/status", content: "" +
		"Package: libc6\n" + ok + "Architecture: amd64\nSource: glibc\nVersion: 2.36-9\nDescription: the C library\n several lines\n .\n of it\n\n" +
		"Package: libc6\n" + ok + "Architecture: i386\nSource: glibc\nVersion: 2.36-9\n\n" +
		"Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n" +
		"Package: unpacked\nStatus: install ok unpacked\nArchitecture: amd64\nVersion: 1\n\n" +
		"Package: held\nStatus: hold ok installed\nArchitecture: all\nVersion: 1:2-3\n\n" +
		"Package: gcc\n" + ok + "Architecture: amd64\nSource: gcc-12 (12.2.0-14)\nVersion: 12.2.0-14\n\n" +
		"Package: libgcc\n" + ok + "Architecture: amd64\nSource: gcc-12 (12.2.0-13)\nVersion: 12.2.0-13+b1\n\n" +
		"Package: nowhere\n" + ok + "Version: 1\n\n" +
		"Package: noversion\n" + ok + "Architecture: amd64\n\n" +
		"no field at all\n\nPackage: last\n" + ok + "Architecture: amd64\nVersion: 9"}
	equal(t, "status", installedIn(t, layerFiles{status}),
		"gcc@12.2.0-14 amd64 of gcc-12@12.2.0-14", "held@1:2-3 all of held@1:2-3", "last@9 amd64 of last@9",
		"libc6@2.36-9 amd64 of glibc@2.36-9", "libc6@2.36-9 i386 of glibc@2.36-9", "libgcc@12.2.0-13+b1 amd64 of gcc-12@12.2.0-13",
		"nowhere@1  of nowhere@1", "unpacked@1 amd64 of unpacked@1")

	one := "Package: p\n" + ok + "Architecture: amd64\nVersion: 1\n\n"
	equal(t, "elsewhere, beside info", installedIn(t, layerFiles{{name: "srv/db/status", content: one}, {name: "srv/db/info/"}}), "p@1 amd64 of p@1")
	equal(t, "elsewhere, without info", installedIn(t, layerFiles{{name: "srv/db/status", content: one}}))
	equal(t, "vcpkg's", installedIn(t, layerFiles{{name: "vcpkg/status", content: one + "Package: v\nFeature: core\nVersion: 1\n\n"}, {name: "vcpkg/info/"}}))
	equal(t, "a link out of the layer", installedIn(t, layerFiles{{name: "var/lib/dpkg/status", link: "/srv/status"}}))
	equal(t, "bytes that are no text", installedIn(t, layerFiles{{name: "var/lib/dpkg/status", content: "Package: p\x00\xff\n" + ok + "Version: 1\n\n"}}), "p\uFFFD\uFFFD@1  of p\uFFFD\uFFFD@1")
}

func TestDistroless(t *testing.T) {
	t.Parallel()
	equal(t, "status.d", installedIn(t,
		layerFiles{
			{name: "var/lib/dpkg/status.d/tzdata", content: "Package: tzdata\nArchitecture: all\nVersion: 2024a-0\n"},
			{name: "var/lib/dpkg/status.d/tzdata.md5sums", content: "d41d8cd98f00b204e9800998ecf8427e  f\n"},
			{name: "var/lib/dpkg/status.d/libssl3", content: "Package: libssl3\nSource: openssl\nArchitecture: amd64\nVersion: 3.0.16-1\n"},
		},
		layerFiles{{name: "var/lib/dpkg/status.d/libkrb5-3", content: "Package: libkrb5-3\nSource: krb5 (1.20.1-2)\nArchitecture: amd64\nVersion: 1.20.1-2+b1\n"}},
	), "libkrb5-3@1.20.1-2+b1 amd64 of krb5@1.20.1-2", "libssl3@3.0.16-1 amd64 of openssl@3.0.16-1", "tzdata@2024a-0 all of tzdata@2024a-0")
}

func TestApk(t *testing.T) {
	t.Parallel()
	equal(t, "a database", installedIn(t, layerFiles{{name: "usr/lib/apk/db/installed", content: "" +
		"C:Q1abc=\nP:busybox\nV:1.36.1-r4\nA:x86_64\no:busybox\nF:bin\nR:busybox\n\n" +
		"P:ssl_client\nV:1.36.1-r4\nA:x86_64\no:busybox\n\nP:bare\nV:1\n\nV:2\n\nP:last\nV:1-r0"}}),
		"bare@1 ", "busybox@1.36.1-r4 x86_64 of busybox@1.36.1-r4", "last@1-r0 ", "ssl_client@1.36.1-r4 x86_64 of busybox@1.36.1-r4")
}

// TestRelease holds how distributions are called against what claircore's
// updaters call them, and which one counts.
func TestRelease(t *testing.T) {
	t.Parallel()
	status := entry{name: "var/lib/dpkg/status", content: "Package: p\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n"}
	bookworm := claircore.Distribution{
		DID: "debian", Name: "Debian GNU/Linux", VersionID: "12", VersionCodeName: "bookworm",
		Version: "12 (bookworm)", PrettyName: "Debian GNU/Linux 12 (bookworm)",
	}
	jammy := claircore.Distribution{
		DID: "ubuntu", Name: "Ubuntu", VersionID: "22.04", VersionCodeName: "jammy", Version: "22.04 (Jammy)", PrettyName: "Ubuntu 22.04",
	}
	alpine319 := claircore.Distribution{DID: "alpine", Name: "Alpine Linux", Version: "3.19", PrettyName: "Alpine Linux v3.19"}
	edge := claircore.Distribution{DID: "alpine", Name: "Alpine Linux", Version: "edge", PrettyName: "Alpine Linux edge"}
	osRelease := func(content string) entry { return entry{name: "etc/os-release", content: content} }
	usr := func(content string) entry { return entry{name: "usr/lib/os-release", content: content} }
	link := entry{name: "etc/os-release", link: "../usr/lib/os-release"}
	const debian12 = "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n"
	const debian13 = "ID=debian\nVERSION_ID=\"13\"\nVERSION_CODENAME=trixie\n"
	for name, c := range map[string]struct {
		layers []layerFiles
		want   claircore.Distribution
	}{
		"Debian":                                  {[]layerFiles{{osRelease(debian12)}}, bookworm},
		"Debian, a point release":                 {[]layerFiles{{osRelease("ID=debian\nVERSION_ID=\"12.5\"\nVERSION=\"12 (bookworm)\"\n")}}, bookworm},
		"Debian, in usr alone":                    {[]layerFiles{{usr(debian12)}}, bookworm},
		"Debian, an odd line":                     {[]layerFiles{{osRelease(debian12 + "nonsense\n")}}, bookworm},
		"Debian, upgraded":                        {[]layerFiles{{osRelease(debian13)}, {osRelease(debian12)}}, bookworm},
		"Debian, upgraded in usr alone":           {[]layerFiles{{link, usr(debian13)}, {usr(debian12)}}, bookworm},
		"Debian, one in usr that is not in force": {[]layerFiles{{osRelease(debian12)}, {usr(debian13)}}, bookworm},
		"Debian, release files removed":           {[]layerFiles{{osRelease(debian12)}, {{name: "etc/.wh.os-release"}}}, bookworm},
		"Debian testing": {
			[]layerFiles{{osRelease("ID=debian\nNAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Debian GNU/Linux forky/sid\"\nVERSION_CODENAME=forky\n")}},
			claircore.Distribution{DID: "debian", Name: "Debian GNU/Linux", PrettyName: "Debian GNU/Linux forky/sid", VersionCodeName: "forky"},
		},
		"Raspbian": {
			[]layerFiles{{osRelease("ID=raspbian\nID_LIKE=debian\nNAME=\"Raspbian GNU/Linux\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n")}},
			claircore.Distribution{DID: "raspbian", Name: "Raspbian GNU/Linux", VersionID: "12", VersionCodeName: "bookworm"},
		},
		"Ubuntu":                    {[]layerFiles{{osRelease("ID=ubuntu\nVERSION_ID=\"22.04\"\nVERSION_CODENAME=jammy\n")}}, jammy},
		"Ubuntu, by its older file": {[]layerFiles{{{name: "etc/lsb-release", content: "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=22.04\nDISTRIB_CODENAME=jammy\n"}}}, jammy},
		"Ubuntu, without codename":  {[]layerFiles{{osRelease("ID=ubuntu\nVERSION_ID=\"22.04\"\nVERSION=\"22.04.3 LTS (Jammy Jellyfish)\"\n")}}, jammy},
		"Alpine":                    {[]layerFiles{{osRelease("ID=alpine\nVERSION_ID=3.19.1\nPRETTY_NAME=\"Alpine Linux v3.19\"\n")}}, alpine319},
		"Alpine, renamed":           {[]layerFiles{{osRelease("ID=alpine\nVERSION_ID=3.19.1\nPRETTY_NAME=\"Our Appliance\"\nNAME=Ours\n")}}, alpine319},
		"Alpine, two numbers":       {[]layerFiles{{osRelease("ID=alpine\nVERSION_ID=3.19\n")}}, alpine319},
		"Alpine, by its issue":      {[]layerFiles{{{name: "etc/issue", content: "Welcome to Alpine Linux 3.19\n"}}}, alpine319},
		"Alpine edge":               {[]layerFiles{{osRelease("ID=alpine\nVERSION_ID=3.22.0_alpha20250108\nPRETTY_NAME=\"Alpine Linux edge\"\n")}}, edge},
		"Amazon, in usr alone": {
			[]layerFiles{{link, usr("ID=amzn\nVERSION_ID=\"2023\"\nCPE_NAME=\"cpe:2.3:o:amazon:amazon_linux:2023\"\n")}},
			claircore.Distribution{DID: "amzn", Name: "Amazon Linux", VersionID: "2023", Version: "2023", PrettyName: "Amazon Linux 2023"},
		},
		"Rocky": {
			[]layerFiles{{osRelease("NAME=\"Rocky Linux\"\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.3\"\nREDHAT_SUPPORT_PRODUCT=\"Rocky Linux\"\n")}},
			claircore.Distribution{DID: "rocky", Name: "Rocky Linux", VersionID: "9", PrettyName: "Rocky Linux 9"},
		},
		"Wolfi": {
			[]layerFiles{{osRelease("ID=wolfi\nNAME=\"Wolfi\"\nPRETTY_NAME=\"Wolfi\"\nVERSION_ID=\"20230201\"\n")}},
			claircore.Distribution{DID: "wolfi", Name: "Wolfi", PrettyName: "Wolfi"},
		},
		"openEuler": {
			[]layerFiles{{osRelease("NAME=\"openEuler\"\nVERSION=\"22.03 (LTS-SP3)\"\nID=\"openEuler\"\nVERSION_ID=\"22.03\"\n")}},
			claircore.Distribution{DID: "openEuler", Name: "openEuler", VersionID: "22.03-LTS-SP3", PrettyName: "openEuler 22.03-LTS-SP3"},
		},
	} {
		_, r := indexed(t, append(slices.Clone(c.layers), layerFiles{status}))
		var got []claircore.Distribution
		for _, envs := range r.Environments {
			for _, e := range envs {
				if d := r.Distributions[e.DistributionID]; d != nil {
					bare := *d
					bare.ID, bare.CPE = "", c.want.CPE
					got = append(got, bare)
				}
			}
		}
		if len(got) != 1 || got[0] != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, c.want)
		}
	}
}
