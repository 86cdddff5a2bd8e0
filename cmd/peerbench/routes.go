package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
)

// routeCounts are the rows of mode routes.
func routeCounts() []int { return []int{10, 100, 1000, 10000} }

func mostRoutes() int { return slices.Max(routeCounts()) }

// worstRoutes names the row that no goal is set for.
func worstRoutes() string { return fmt.Sprintf("%d, one bucket", mostRoutes()) }

// routePathFormat is the path of a request: the number of its bucket, any
// number, and the number of its route. Only the last tells a bucket's routes
// apart, and it stands behind the first variable: no literal prefix helps.
const routePathFormat = "/api/b%04d/%d/r%05d"

// manyRoutes makes n routes of which at most bucket share their literal prefix.
func manyRoutes(n, bucket int) []grayfedRoute {
	routes := make([]grayfedRoute, n)
	for i := range routes {
		routes[i] = grayfedRoute{
			Name:    fmt.Sprintf("r%05d", i),
			Path:    fmt.Sprintf("/api/b%04d/{id:[0-9]+}/r%05d", i/bucket, i),
			Service: benchService,
		}
	}
	return routes
}

// routes is the mode of that name: what a request costs grayfed as its routes
// grow in number. All rows but the last fill buckets up to the limit before
// opening the next; the last has all routes in one.
func (b *bench) routes(ctx context.Context, r *report) error {
	if !b.settings.wants(peerGrayfed) {
		return nil
	}
	baseline := strconv.Itoa(routeCounts()[0]) + " routes"
	var all []contestant
	add := func(name string, count, bucket int) error {
		script := filepath.Join(b.dir, fmt.Sprintf("routes-%d-%d.lua", count, bucket))
		fill := loadScript{Host: loadHost, TagHeader: tagHeader, Tag: canaryRelease,
			Routes: count, Bucket: bucket, PathFormat: routePathFormat}
		if err := renderTo(script, "routes.lua.tmpl", fill); err != nil {
			return err
		}
		table := manyRoutes(count, bucket)
		last := count - 1
		all = append(all, contestant{
			name: name, peer: peerGrayfed, baseline: baseline, script: script,
			sample: fmt.Sprintf(routePathFormat, last/bucket, 7, last),
			start:  func(ctx context.Context) (*proxy, error) { return b.startGrayfed(ctx, protocol{}, false, table) },
		})
		return nil
	}
	for _, count := range routeCounts() {
		if err := add(strconv.Itoa(count)+" routes", count, b.settings.Bucket); err != nil {
			return err
		}
	}
	if err := add(worstRoutes(), mostRoutes(), mostRoutes()); err != nil {
		return err
	}
	for _, connections := range b.settings.Connections {
		if err := b.contest(ctx, r, all, connections); err != nil {
			return err
		}
	}
	r.judgeRatios()
	return nil
}
