package fault

import (
	"fmt"
	"strconv"
)

// cpuPeriod is over which the kernel shares a CPU out, in microseconds; a
// tenth of its default, so that a squeezed process is slow rather than absent
// for long.
const cpuPeriod = 10_000

// newCPUSqueeze gives each process a share of one CPU's time.
func newCPUSqueeze(spec Spec, target any) (Fault, error) {
	period, quota := strconv.Itoa(cpuPeriod), strconv.Itoa(max(cpuPeriod*spec.CPU/100, minQuota))
	return squeezing(fmt.Sprintf("%d%% of a CPU for ", spec.CPU), &spec, target, &squeeze{
		controller: "cpu",
		v1:         []setting{{"cpu.cfs_period_us", period}, {"cpu.cfs_quota_us", quota}},
		v2:         []setting{{"cpu.max", quota + " " + period}},
	})
}

// minQuota is the least that the kernel takes, in microseconds.
const minQuota = 1000
