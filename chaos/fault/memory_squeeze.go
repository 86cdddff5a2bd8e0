package fault

import (
	"fmt"
	"strconv"
)

// newMemorySqueeze bounds what processes may allocate from then on: the kernel
// counts pages where they were allocated, and those from before stay counted
// outside. A process that needs more is killed by the kernel.
func newMemorySqueeze(spec Spec, target any) (Fault, error) {
	amount := strconv.FormatInt(spec.Memory, 10)
	return squeezing(fmt.Sprintf("%d more bytes of memory for ", spec.Memory), &spec, target, &squeeze{
		controller: "memory",
		v1:         []setting{{"memory.limit_in_bytes", amount}, {"memory.memsw.limit_in_bytes?", amount}},
		v2:         []setting{{"memory.max", amount}, {"memory.swap.max?", "0"}},
	})
}
