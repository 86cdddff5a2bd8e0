package config

import (
	"errors"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Report is what [Validate] found to be there.
type Report struct {
	Files     []string // that were read, sorted
	Processes []string // those of them that are process settings
	// Documents are those of all the other files, as one set; nil when no file
	// has documents.
	Documents *Documents
}

// Validate reads files and folders without using them: edge.yaml and files
// with documents, told apart by their content. All documents are validated as
// one set. The error is a [Problems] with everything that is wrong; the report
// is complete without one only.
func Validate(paths []string) (*Report, error) {
	var problems Problems
	var documents []File
	report := &Report{}
	seen := make(map[string]bool)
	for _, path := range paths {
		files, err := readStable(path)
		problems.join(err)
		for _, file := range files {
			if seen[file.Name] {
				continue
			}
			seen[file.Name] = true
			report.Files = append(report.Files, file.Name)
			if !isProcess(file) {
				documents = append(documents, file)
				continue
			}
			report.Processes = append(report.Processes, file.Name)
			_, err := ParseProcess(file.Name, file.Data)
			problems.join(err)
		}
	}
	slices.Sort(report.Files)
	if len(documents) > 0 {
		var err error
		report.Documents, err = ParseDocuments(documents)
		problems.join(err)
	}
	return report, problems.sorted()
}

// join adds an error of this package.
func (p *Problems) join(err error) {
	var more Problems
	if errors.As(err, &more) {
		for _, problem := range more {
			p.add(problem)
		}
	}
}

// isProcess reports whether a file's first YAML document is process settings.
func isProcess(file File) bool {
	var ignored Problems
	roots := parseYAML(file.Name, file.Data, &ignored)
	return len(roots) > 0 && resolve(roots[0]).Kind == yaml.MappingNode && !isDocument(roots[0]) && looksLikeProcess(roots[0])
}
