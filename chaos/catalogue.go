package chaos

import (
	"embed"
	"fmt"
	"path"
	"slices"
	"strings"
)

//go:embed catalogue/*.yaml
var catalogue embed.FS

// Catalogue returns the drills that come with the program, by name.
func Catalogue() ([]*Drill, error) {
	entries, err := catalogue.ReadDir("catalogue")
	if err != nil {
		return nil, fmt.Errorf("list the catalogue: %w", err)
	}
	var drills []*Drill
	for _, entry := range entries {
		file := path.Join("catalogue", entry.Name())
		data, err := catalogue.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the catalogue: %w", err)
		}
		d, err := DecodeDrill(file, data)
		if err != nil {
			return nil, err
		}
		drills = append(drills, d)
	}
	slices.SortFunc(drills, func(a, b *Drill) int { return strings.Compare(a.Name, b.Name) })
	return drills, nil
}

// Find returns the drill of that name in the catalogue, or, when name ends in
// .yaml or .yml, the one in that file.
func Find(name string) (*Drill, error) {
	if ext := path.Ext(name); ext == ".yaml" || ext == ".yml" {
		return ReadDrill(name)
	}
	drills, err := Catalogue()
	if err != nil {
		return nil, err
	}
	names := make([]string, len(drills))
	for i, d := range drills {
		if d.Name == name {
			return d, nil
		}
		names[i] = d.Name
	}
	return nil, fmt.Errorf("no drill is named %q; there are %s, and files that end in .yaml", name, strings.Join(names, ", "))
}
