package route_test

import (
	"fmt"
	"testing"

	"github.com/grayfed/grayfed/edge/route"
)

// benchRoutes spreads n routes over literal buckets of at most 100 routes
// each; requests has one that hits each.
func benchRoutes(n int) (routes []route.Route, requests []*route.Input) {
	for i := range n {
		bucket := i / 100
		path := fmt.Sprintf("/api/bucket-%03d/items-%02d/{id:[0-9]+}", bucket, i%100)
		hit := fmt.Sprintf("/api/bucket-%03d/items-%02d/%d", bucket, i%100, i*7919)
		switch i % 3 {
		case 1:
			path = fmt.Sprintf("/api/bucket-%03d/users-%02d/**", bucket, i%100)
			hit = fmt.Sprintf("/api/bucket-%03d/users-%02d/42/orders", bucket, i%100)
		case 2:
			path = fmt.Sprintf("/api/bucket-%03d/{tenant}/orders-%02d", bucket, i%100)
			hit = fmt.Sprintf("/api/bucket-%03d/acme/orders-%02d", bucket, i%100)
		}
		routes = append(routes, route.Route{ID: fmt.Sprintf("r%d", i), Path: path, Methods: []string{"GET", "POST"}})
		requests = append(requests, &route.Input{Method: "GET", Host: "gw.example.com", Path: hit})
	}
	// Uniform hits in no order that a cache could guess.
	state := uint32(1)
	for i := range requests {
		state = state*1664525 + 1013904223
		j := int(state>>8) % (i + 1)
		requests[i], requests[j] = requests[j], requests[i]
	}
	return routes, requests
}

// BenchmarkMatch is the cost of one match by number of routes, uniform hits.
// "worst" are routes that no literal tells apart.
func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10_000} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			routes, requests := benchRoutes(n)
			benchmarkMatch(b, newTable(b, routes...), requests)
		})
	}
	b.Run("worst/headers=100", func(b *testing.B) {
		var routes []route.Route
		var requests []*route.Input
		for i := range 100 {
			tenant := fmt.Sprintf("tenant-%02d", i)
			routes = append(routes, route.Route{Path: "/api/{x}", Headers: []route.Match{{Name: "x-tenant", Exact: tenant}}})
			requests = append(requests, &route.Input{Method: "GET", Path: "/api/1", Header: func(string) (string, bool) { return tenant, true }})
		}
		benchmarkMatch(b, newTable(b, routes...), requests)
	})
	b.Run("worst/expressions=100", func(b *testing.B) {
		var routes []route.Route
		var requests []*route.Input
		for i := range 100 {
			routes = append(routes, route.Route{Path: fmt.Sprintf("/api/{x:(?:item|thing)-%02d[a-z]?}", i)})
			requests = append(requests, &route.Input{Method: "GET", Path: fmt.Sprintf("/api/item-%02d", i)})
		}
		benchmarkMatch(b, newTable(b, routes...), requests)
	})
}

func benchmarkMatch(b *testing.B, table *route.Table, requests []*route.Input) {
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, _, result := table.Match(requests[i%len(requests)]); result != route.Matched {
			b.Fatal(result)
		}
	}
}

func BenchmarkNormalisePath(b *testing.B) {
	for _, path := range []string{"/api/v1/users/42/orders", "/api//v1/../%75sers"} {
		b.Run(path, func(b *testing.B) {
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				_, next, err := route.NormalisePath(buf, path)
				if err != nil {
					b.Fatal(err)
				}
				buf = next
			}
		})
	}
}
