package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// swapFile puts content in the place of the file's, in one step, and pushes
// what brings the very bytes and mode back, or removes the file where there
// was none.
func swapFile(u *undo, path string, content []byte) error {
	before, mode, err := readFile(path)
	if err != nil {
		return err
	}
	u.push("bring back "+path, func(context.Context) error {
		now, _, err := readFile(path)
		switch {
		case err != nil:
			return err
		case bytes.Equal(now, before) && (now == nil) == (before == nil):
			return nil
		case !bytes.Equal(now, content):
			return errors.New("somebody else has changed it meanwhile; it is left as it is")
		case before == nil:
			return os.Remove(path)
		}
		return replaceFile(path, before, mode)
	})
	return replaceFile(path, content, mode)
}

// readFile returns nil for a file that does not exist.
func readFile(path string) ([]byte, fs.FileMode, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0o644, nil
	}
	if err != nil {
		return nil, 0, err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, err
	}
	return content, info.Mode().Perm(), nil
}

// replaceFile is seen whole or not at all: it writes beside, under a hidden
// name, and renames.
func replaceFile(path string, content []byte, mode fs.FileMode) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), ".drill-*")
	if err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("replace %s: %w", path, err), os.Remove(file.Name()))
		}
	}()
	_, err = file.Write(content)
	if err = errors.Join(err, file.Chmod(mode), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
