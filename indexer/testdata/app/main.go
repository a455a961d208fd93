// Command app is what tests put into images: a Go binary whose build
// information names a module.
package main

import (
	"fmt"

	"golang.org/x/text/language"
)

func main() { fmt.Println(language.English) }
