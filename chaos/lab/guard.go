package lab

import (
	"fmt"
	"runtime/debug"
)

// guarded makes an error of a panic: one in a goroutine would end the program
// with a network that is broken and processes that are stopped.
func guarded(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return do()
}
