package route

import "testing"

// TestWatermarkStaysSmall: a weight that falls at every look for an hour takes
// no more memory than the window has steps.
func TestWatermarkStaysSmall(t *testing.T) {
	var m watermark
	for i := range int64(36_000) {
		m.observe(i/100, 50_000-i)
		if len(m.past) > highWaterSteps+1 {
			t.Fatalf("%d weights held after %d looks", len(m.past), i)
		}
	}
}
