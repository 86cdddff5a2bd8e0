package fault

import (
	"fmt"
	"runtime/debug"
)

// guarded makes an error of a panic: one in a goroutine would end the program
// and leave broken what is broken.
func guarded(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return do()
}
