// Package guard keeps a panic from ending the program while something is broken
// that is to be mended: networks that are cut, processes that are stopped.
package guard

import (
	"fmt"
	"runtime/debug"
)

// Do calls do and makes an error, with the stack, of a panic of this goroutine.
func Do(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return do()
}
