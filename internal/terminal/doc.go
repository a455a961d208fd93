// Package terminal writes for people: colours where they are wanted, tables
// that line up, times and sizes one can read at a glance.
//
// It guarantees that nothing it is given can send control sequences to the
// terminal: what comes from feeds, registries and other people's servers is
// cleaned on the way out. Widths are counted in runes, not in columns.
package terminal
