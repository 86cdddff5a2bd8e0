package edge

import (
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/grayfed/grayfed/edge/config"
)

// Options configure an [Edge].
type Options struct {
	// Process is the settings of edge.yaml. Required.
	Process *config.Process
	// Version is the program's, for people.
	Version string
	// Output takes the access log and the process log. Required.
	Output io.Writer
	// Now is the wall clock, for whatever has a date; nil: time.Now. Spans are
	// measured by Go's monotonic clock, which no leap of the wall clock moves.
	Now func() time.Time
}

func (o *Options) now() func() time.Time {
	if o.Now != nil {
		return o.Now
	}
	return time.Now
}

func (o *Options) validate() error {
	if o.Process == nil || o.Output == nil {
		return errors.New("an edge needs its settings and an output")
	}
	return o.Process.Validate()
}

// newLog is the process log as the settings want it.
func newLog(settings config.Log, out io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(settings.Level)); err != nil {
		level = slog.LevelInfo // validated; unreachable for read settings
	}
	options := &slog.HandlerOptions{Level: level}
	if settings.Format == "text" {
		return slog.New(slog.NewTextHandler(out, options))
	}
	return slog.New(slog.NewJSONHandler(out, options))
}
