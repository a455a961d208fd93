package oracle

import "strings"

// ecosystems are all of claircore's, by the name a report of coverage uses.
func ecosystems() []ecosystem {
	var all []ecosystem
	for i := range distros {
		all = append(all, distros[i].ecosystem())
	}
	for i := range languages {
		all = append(all, languages[i].ecosystem())
	}
	return append(all,
		ecosystem{name: "rhel", install: installRHEL, advise: adviseRHEL},
		ecosystem{name: "rhcc", install: installRHCC, advise: adviseRHCC},
	)
}

// ecosystemOf says which ecosystem's generator made a package's name.
func ecosystemOf(pkg string) string {
	stem := strings.TrimRight(pkg[:strings.LastIndexByte(pkg, '-')], "0123456789")
	stem = strings.TrimPrefix(stem, "lib")
	switch stem {
	case "quay/container", "container-component":
		return "rhcc"
	}
	for _, l := range languages {
		if l.stem == stem {
			return l.name
		}
	}
	return stem
}
