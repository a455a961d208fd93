package ecosystem

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// installer is one way that packages are installed: the file that says so, and
// how a reader of the disk finds it.
type installer struct {
	name string
	// places are folders that hold packages of their own.
	places []string
	// file is what says that a version of a package is installed in a place.
	file func(place, name, version string) (path, content string)
	// at are the only files that are looked at, through links, if there are any.
	at []string
	// byDatabase says that claircore takes the files of one name for one.
	byDatabase bool
	// read says which package a file of the disk speaks of, if any.
	read func(path string, content []byte) (name, version string)
}

var everywhere = []string{"app", "srv/a", "srv/b"}

var field = func(name string) *regexp.Regexp { return regexp.MustCompile(`(?m)^` + name + `: ?(.*)$`) }

func fieldOf(re *regexp.Regexp, content []byte) string {
	if m := re.FindSubmatch(content); m != nil {
		return string(m[1])
	}
	return ""
}

var installers = []installer{
	{
		name: "npm", places: everywhere,
		file: func(place, name, version string) (string, string) {
			return place + "/node_modules/" + name + "/package.json", fmt.Sprintf(`{"name":%q,"version":%q}`, name, version)
		},
		read: func(p string, content []byte) (string, string) {
			var f struct{ Name, Version string }
			if !strings.Contains(p, "node_modules/") || path.Base(p) != "package.json" || json.Unmarshal(content, &f) != nil {
				return "", ""
			}
			return f.Name, f.Version
		},
	},
	{
		name: "python", places: everywhere,
		file: func(place, name, version string) (string, string) {
			return place + "/site-packages/" + name + ".egg-info", "Metadata-Version: 1.0\nName: " + name + "\nVersion: " + version + "\n\n"
		},
		read: func(p string, content []byte) (string, string) {
			if !strings.HasSuffix(p, ".egg-info") {
				return "", ""
			}
			return fieldOf(field("Name"), content), fieldOf(field("Version"), content)
		},
	},
	{
		name: "ruby", places: everywhere,
		file: func(place, name, version string) (string, string) {
			return place + "/specifications/" + name + ".gemspec", "s.name = \"" + name + "\".freeze\ns.version = \"" + version + "\"\n"
		},
		read: func(p string, content []byte) (string, string) {
			name := regexp.MustCompile(`s\.name = "(.*?)"`).FindSubmatch(content)
			version := regexp.MustCompile(`s\.version = "(.*?)"`).FindSubmatch(content)
			if !strings.HasSuffix(p, ".gemspec") || name == nil || version == nil {
				return "", ""
			}
			return string(name[1]), string(version[1])
		},
	},
	{
		name: "java", places: everywhere,
		file: func(place, name, version string) (string, string) {
			var b bytes.Buffer
			z := zip.NewWriter(&b)
			for file, content := range map[string]string{
				"META-INF/MANIFEST.MF":                           "Manifest-Version: 1.0\n",
				"META-INF/maven/org/" + name + "/pom.properties": "groupId=org\nartifactId=" + name + "\nversion=" + version + "\n",
			} {
				w, err := z.Create(file)
				if err == nil {
					_, err = w.Write([]byte(content))
				}
				if err != nil {
					panic(err)
				}
			}
			if err := z.Close(); err != nil {
				panic(err)
			}
			return place + "/" + name + ".jar", b.String()
		},
		read: func(p string, content []byte) (string, string) {
			z, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
			if err != nil || !strings.HasSuffix(p, ".jar") {
				return "", ""
			}
			found, _ := fs.Glob(z, "META-INF/maven/org/*/pom.properties")
			b, _ := fs.ReadFile(z, found[0])
			version := regexp.MustCompile(`version=(.*)`).FindSubmatch(b)
			return "org:" + path.Base(path.Dir(found[0])), string(version[1])
		},
	},
	{
		byDatabase: true, name: "dpkg", places: []string{"var/lib", "srv/chroot/var/lib"},
		file: func(place, name, version string) (string, string) {
			return place + "/dpkg/status", "Package: " + name + "\nStatus: install ok installed\nArchitecture: amd64\nVersion: " + version + "\n\n"
		},
		read: func(p string, content []byte) (string, string) {
			if !strings.HasSuffix(p, "dpkg/status") {
				return "", ""
			}
			return fieldOf(field("Package"), content), fieldOf(field("Version"), content)
		},
	},
	{
		byDatabase: true, name: "distroless", places: []string{"var/lib/dpkg", "srv/dpkg"},
		file: func(place, name, version string) (string, string) {
			return place + "/status.d/" + name, "Package: " + name + "\nArchitecture: amd64\nVersion: " + version + "\n"
		},
		read: func(p string, content []byte) (string, string) {
			if !strings.Contains(p, "status.d/") {
				return "", ""
			}
			return fieldOf(field("Package"), content), fieldOf(field("Version"), content)
		},
	},
	{
		byDatabase: true, name: "apk", places: []string{"lib", "usr/lib"}, at: apkDatabases,
		file: func(place, name, version string) (string, string) {
			return place + "/apk/db/installed", "P:" + name + "\nV:" + version + "\nA:x86_64\no:" + name + "\n\n"
		},
		read: func(p string, content []byte) (string, string) {
			return fieldOf(regexp.MustCompile(`(?m)^P:(.*)$`), content), fieldOf(regexp.MustCompile(`(?m)^V:(.*)$`), content)
		},
	},
}

// there reads what a directory has installed.
func (k installer) there(t testing.TB, root string) []string {
	t.Helper()
	var out []string
	for _, p := range k.at {
		b, err := os.ReadFile(filepath.Join(within(t, root, path.Dir(p)), path.Base(p)))
		if name, version := k.read(p, b); err == nil && name != "" {
			out = append(out, name+"@"+version)
		}
	}
	if k.at != nil {
		slices.Sort(out)
		return slices.Compact(out)
	}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if name, version := k.read(rel, b); name != "" {
			out = append(out, name+"@"+version)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// check holds what is indexed of layers against what is there when they are
// unpacked.
func (k installer) check(t testing.TB, layers []layerFiles) (is []string) {
	t.Helper()
	root, err := os.MkdirTemp("", "tocsin-image-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(root)
	extract(t, root, layers)
	want := k.there(t, root)
	got, _ := indexed(t, layers)
	if !slices.Equal(got, want) {
		t.Fatalf("indexed %v, there is %v\n%s", got, want, show(layers))
	}
	return want
}

func show(layers []layerFiles) string {
	var b strings.Builder
	for i, l := range layers {
		fmt.Fprintf(&b, "layer %d:\n", i)
		for _, e := range l {
			fmt.Fprintf(&b, "  %s %s%s\n", e.name, e.link, e.hard)
		}
	}
	return b.String()
}

// puts is an entry that installs a package.
func (k installer) puts(place, name, version string) entry {
	p, content := k.file(place, name, version)
	return entry{name: p, content: content}
}

// gone is a whiteout of what installs a package.
func (k installer) gone(place, name string) entry {
	p, _ := k.file(place, name, "1.0")
	return entry{name: path.Join(path.Dir(p), ".wh."+path.Base(p))}
}

// layersCase is an image and what is in it.
type layersCase struct {
	layers []layerFiles
	want   []string
}

// TestLayers is what every ecosystem passes: packages are those that are there
// once all layers are unpacked.
func TestLayers(t *testing.T) {
	const one = "one@1.0"
	for _, k := range installers {
		a, b := k.places[0], k.places[1]
		top := strings.Split(b, "/")[0]
		under := func(e entry, dir string) entry { e.name = dir + strings.TrimPrefix(e.name, b); return e }
		cases := map[string]layersCase{
			"one layer":                  {[]layerFiles{{k.puts(a, "one", "1.0")}}, []string{one}},
			"deleted":                    {[]layerFiles{{k.puts(a, "one", "1.0")}, {k.gone(a, "one")}}, nil},
			"deleted and back":           {[]layerFiles{{k.puts(a, "one", "1.0")}, {k.gone(a, "one")}, {k.puts(a, "one", "1.0")}}, []string{one}},
			"twice, the first deleted":   {[]layerFiles{{k.puts(a, "one", "1.0"), k.puts(b, "one", "1.0")}, {k.gone(a, "one")}}, []string{one}},
			"twice, the other deleted":   {[]layerFiles{{k.puts(a, "one", "1.0"), k.puts(b, "one", "1.0")}, {k.gone(b, "one")}}, []string{one}},
			"twice, both deleted":        {[]layerFiles{{k.puts(a, "one", "1.0")}, {k.puts(b, "one", "1.0")}, {k.gone(b, "one"), k.gone(a, "one")}}, nil},
			"overwritten":                {[]layerFiles{{k.puts(a, "one", "1.0")}, {k.puts(a, "one", "2.0")}}, []string{"one@2.0"}},
			"overwritten by the same":    {[]layerFiles{{k.puts(a, "one", "1.0")}, {k.puts(a, "one", "1.0")}}, []string{one}},
			"replaced by something else": {[]layerFiles{{k.puts(a, "one", "1.0")}, {entry{name: k.puts(a, "one", "1.0").name, content: "nothing"}}}, nil},
			"folder deleted":             {[]layerFiles{{k.puts(b, "one", "1.0")}, {entry{name: ".wh." + top}}}, nil},
			"folder opaque":              {[]layerFiles{{k.puts(b, "one", "1.0")}, {entry{name: top + "/"}, entry{name: top + "/.wh..wh..opq"}}}, nil},
			"opaque, and put anew":       {[]layerFiles{{k.puts(b, "one", "1.0")}, {k.puts(b, "one", "2.0"), entry{name: top + "/.wh..wh..opq"}}}, []string{"one@2.0"}},
			"folder becomes a link":      {[]layerFiles{{k.puts(b, "one", "1.0")}, {entry{name: top, link: "/elsewhere"}, entry{name: "elsewhere/f", content: "x"}}}, nil},
			"folder becomes a file":      {[]layerFiles{{k.puts(b, "one", "1.0")}, {entry{name: top, content: "x"}}}, nil},
			"file becomes a folder":      {[]layerFiles{{k.puts(a, "one", "1.0")}, {entry{name: k.puts(a, "one", "1.0").name + "/"}}}, nil},
			"link becomes a folder":      {[]layerFiles{{entry{name: "real/x", content: "x"}, entry{name: top, link: "real"}}, {entry{name: top + "/"}, k.puts(b, "one", "1.0")}}, []string{one}},
			"a layer twice":              {[]layerFiles{{k.puts(a, "one", "1.0")}, {k.gone(a, "one")}, {k.puts(a, "one", "1.0")}}, []string{one}},
			"an empty layer on top":      {[]layerFiles{{k.puts(a, "one", "1.0")}, {}}, []string{one}},
			"folder again, explicitly":   {[]layerFiles{{k.puts(b, "one", "1.0")}, {entry{name: top + "/"}}}, []string{one}},
			"deleted through a link":     {[]layerFiles{{k.puts(b, "one", "1.0")}, {entry{name: "way", link: "/" + b}}, {under(k.gone(b, "one"), "way")}}, nil},
		}
		if k.at == nil { // the layer alone must say what its file is
			cases["overwritten through a link"] = layersCase{
				[]layerFiles{{k.puts(b, "one", "1.0")}, {entry{name: "way", link: b}}, {under(k.puts(b, "one", "2.0"), "way")}}, []string{"one@2.0"},
			}
		}
		for name, c := range cases {
			t.Run(k.name+"/"+name, func(t *testing.T) {
				got := k.check(t, c.layers)
				for i, p := range got {
					got[i] = strings.TrimPrefix(p, "org:")
				}
				if !slices.Equal(got, c.want) {
					t.Fatalf("the disk holds %v, the case means %v", got, c.want)
				}
			})
		}
	}
}

// TestRandomLayers holds random images against what is there when they are
// unpacked.
func TestRandomLayers(t *testing.T) {
	for _, k := range installers {
		t.Run(k.name, func(t *testing.T) {
			rapid.Check(t, func(r *rapid.T) {
				layers := make([]layerFiles, rapid.IntRange(1, 5).Draw(r, "layers"))
				for i := range layers {
					layers[i] = k.randomLayer(r)
				}
				k.check(rapidTB{t, r}, layers)
			})
		})
	}
}

// randomLayer draws a layer in which no name is below another's file.
func (k installer) randomLayer(r *rapid.T) layerFiles {
	var out layerFiles
	taken := map[string]bool{}
	add := func(e entry) {
		bare := strings.TrimSuffix(e.name, "/")
		for other := range taken {
			if bare == other || strings.HasPrefix(bare, other+"/") || strings.HasPrefix(other, bare+"/") {
				return
			}
		}
		taken[bare] = true
		out = append(out, e)
	}
	place := rapid.SampledFrom(k.places)
	name := rapid.SampledFrom([]string{"one", "two"})
	for range rapid.IntRange(0, 4).Draw(r, "entries") {
		p, n := place.Draw(r, "place"), name.Draw(r, "name")
		most := 7
		if k.byDatabase {
			most = 6 // a name may lead to one database in one layer, and to another in the next
		}
		switch rapid.IntRange(0, most).Draw(r, "what") {
		case 0, 1, 2:
			add(k.puts(p, n, rapid.SampledFrom([]string{"1.0", "2.0"}).Draw(r, "version")))
		case 3:
			add(k.gone(p, n))
		case 4:
			dir := rapid.SampledFrom(parents(p)).Draw(r, "folder")
			add(entry{name: path.Join(path.Dir(dir), ".wh."+path.Base(dir))})
		case 5:
			add(entry{name: rapid.SampledFrom(parents(p)).Draw(r, "folder") + "/.wh..wh..opq"})
		case 6:
			add(entry{name: rapid.SampledFrom(parents(p)).Draw(r, "folder"), content: "x"})
		case 7:
			dir := rapid.SampledFrom(parents(p)).Draw(r, "folder")
			add(entry{name: dir, link: "/store/" + strings.ReplaceAll(dir, "/", "-")})
		}
	}
	return out
}

func parents(p string) []string {
	var out []string
	for ; p != "."; p = path.Dir(p) {
		out = append(out, p)
	}
	return out
}

// rapidTB is a test whose failures are the property's.
type rapidTB struct {
	testing.TB
	r *rapid.T
}

func (t rapidTB) Fatal(args ...any)            { t.r.Helper(); t.r.Fatal(args...) }
func (t rapidTB) Fatalf(f string, args ...any) { t.r.Helper(); t.r.Fatalf(f, args...) }
