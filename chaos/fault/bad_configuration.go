package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/grayfed/grayfed/edge/api"
)

// Flaws are the ways in which a pushed configuration is bad: it is no YAML, it
// has a field that the schema lacks, or what is well-formed by itself is not
// valid as a whole: it has two routes of one name.
func Flaws() []string { return []string{"syntax", "unknown-field", "invalid"} }

// flawed is what each flaw adds to the documents.
func flawed(flaw string) string {
	switch flaw {
	case "syntax":
		return "apiVersion: grayfed/v1\nkind: Service\nmetadata: { name: [\n"
	case "unknown-field":
		return "apiVersion: grayfed/v1\nkind: Service\nmetadata: { name: drill-bad-configuration }\nspec: { no-such-field: 1 }\n"
	default:
		const route = "apiVersion: grayfed/v1\nkind: Route\nmetadata: { name: drill-bad-configuration }\n" +
			"spec: { path: \"/drill-bad-configuration\", upstream: \"http://127.0.0.1:9\" }\n"
		return route + "---\n" + route
	}
}

// newBadConfiguration pushes documents that no edge may take to the files that
// edges watch. Mended, they have the very bytes that they had.
func newBadConfiguration(spec Spec, target any) (Fault, error) {
	documents, err := need[Documents](target, "documents")
	if err != nil {
		return nil, err
	}
	named, files, err := zoneFiles(spec.Zones, target, "file of documents", documents.Documents)
	if err != nil {
		return nil, err
	}
	refused := func(said *api.Federation) error {
		if said.Documents.Error == "" {
			return errors.New("it has not refused the documents")
		}
		return nil
	}
	do := func(_ context.Context, u *undo) error {
		for _, file := range files {
			before, _, err := readFile(file)
			if err != nil {
				return err
			}
			if before == nil {
				return errors.New("there are no documents at " + file)
			}
			if err := swapFile(u, file, slices.Concat(before, []byte("\n---\n"+flawed(spec.Flaw)))); err != nil {
				return err
			}
		}
		return nil
	}
	return &plan{
		what: fmt.Sprintf("push bad configuration (%s) to %s", spec.Flaw, list(named)),
		do:   do, effect: onEdges(target, named, refused),
	}, nil
}
