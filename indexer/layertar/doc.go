// Package layertar reads the tar archive of a layer as GNU tar and container
// runtimes do, and writes it anew where claircore's reader would see something
// else: of entries with one name the last holds, a file may take a directory's
// place and a directory a file's, sizes may be in extended headers alone, and
// the old v7 format has no magic.
//
// What it writes has every name once, directories before what is in them, no
// symbolic links that lead in a circle and no path that a file system could not
// hold. It refuses what is no tar archive, what is damaged, and what is over the
// limits.
package layertar
