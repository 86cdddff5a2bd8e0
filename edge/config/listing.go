package config

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Bounds of a folder of documents.
const (
	maxFiles     = 10_000
	maxTotalSize = 128 << 20
)

// listing is the state of a file or of a folder's documents, sorted by path.
type listing []fileState

// fileState is what tells a changed file, links followed.
type fileState struct {
	path     string
	size     int64
	modified int64 // Unix nanoseconds
	inode    uint64
	device   uint64
}

// youngerThan reports whether a file was changed after the time.
func (l listing) youngerThan(t time.Time) bool {
	return slices.ContainsFunc(l, func(f fileState) bool { return f.modified > t.UnixNano() })
}

// list looks at a file, or at the documents of a folder.
func list(path string) (listing, *Problem) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, &Problem{File: path, Found: reason(err), Allowed: "a file or folder"}
	}
	if !info.IsDir() {
		return listing{stateOf(path, info)}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, &Problem{File: path, Found: reason(err), Allowed: "a readable folder"}
	}
	found := listing{}
	var total int64
	for _, entry := range entries {
		if !documentName(entry.Name()) {
			continue
		}
		name := filepath.Join(path, entry.Name())
		info, err := os.Stat(name)
		if err != nil {
			return nil, &Problem{File: name, Found: reason(err), Allowed: "a readable file"}
		}
		if !info.Mode().IsRegular() {
			continue
		}
		found = append(found, stateOf(name, info))
		total += info.Size()
	}
	if len(found) > maxFiles || total > maxTotalSize {
		return nil, &Problem{
			File: path, Found: fmt.Sprintf("%d files of %d bytes", len(found), total),
			Allowed: fmt.Sprintf("at most %d files of %d MiB together", maxFiles, maxTotalSize>>20),
		}
	}
	return found, nil
}

// documentName leaves out hidden files, among them editors' and the folders
// behind mounted configuration maps, and other kinds of files.
func documentName(name string) bool {
	if strings.HasPrefix(name, ".") {
		return false
	}
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return true
	default:
		return false
	}
}

func stateOf(path string, info fs.FileInfo) fileState {
	state := fileState{path: path, size: info.Size(), modified: info.ModTime().UnixNano()}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		state.inode, state.device = stat.Ino, uint64(stat.Dev) //nolint:unconvert // its type differs between systems
	}
	return state
}

// readAll reads the files of a listing.
func readAll(found listing) ([]File, Problems) {
	var problems Problems
	files := make([]File, 0, len(found))
	for _, state := range found {
		data, problem := readFile(state.path)
		if problem != nil {
			problems.add(*problem)
			continue
		}
		files = append(files, File{Name: state.path, Data: data})
	}
	return files, problems
}
