package http2

type call struct{}

func newCall() *call { return new(call) }
