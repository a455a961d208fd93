package oracle

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
