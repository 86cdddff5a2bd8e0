package main

import (
	"io"
	"os"
	"sync"
)

// terminal reports whether people watch what is written.
func terminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// maxTail is how much a tailWriter keeps, in bytes.
const maxTail = 32 << 10

// tailWriter keeps the end of what is written to it.
type tailWriter struct {
	mu   sync.Mutex
	kept []byte
}

// Write implements io.Writer.
func (w *tailWriter) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept = append(w.kept, text...)
	if len(w.kept) > 2*maxTail {
		w.kept = append([]byte(nil), w.kept[len(w.kept)-maxTail:]...)
	}
	return len(text), nil
}

func (w *tailWriter) bytes() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.kept[max(0, len(w.kept)-maxTail):]
}
