package registry

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/grayfed/grayfed/federation"
)

// The cache file is text, a line an entry:
//
//	{"schema":1,"prefix":...,"revision":...,"savedAt":...,"entries":...}
//	key modRevision fingerprint value
//	...
//	sha256 of all the lines above
//
// Entries are edges and instances as etcd holds them; neither keys nor stored
// values contain a space or a line break outside of JSON text, where the latter
// are escaped.

// cacheHeader is the first line of the cache file.
type cacheHeader struct {
	Schema   int       `json:"schema"`
	Prefix   string    `json:"prefix"` // of all keys
	Revision int64     `json:"revision"`
	SavedAt  time.Time `json:"savedAt"`
	Entries  int       `json:"entries"`
}

// keepCache writes the view to the cache file when it changed, and once more
// at the end.
func (r *Registry) keepCache(ctx context.Context) {
	if r.opts.CachePath == "" {
		return
	}
	var saved uint64
	for going := true; going; {
		going = pause(ctx, r.timing.CacheEvery)
		r.mu.Lock()
		live, changes := r.view.live, r.view.changes
		r.mu.Unlock()
		if !live || changes == saved {
			continue
		}
		if err := r.saveCache(); err != nil {
			r.log.Warn("snapshot is not cached", "path", r.opts.CachePath, "error", err)
			continue
		}
		saved = changes
	}
}

// saveCache writes the view beside the cache file and renames it into place.
func (r *Registry) saveCache() (err error) {
	r.mu.Lock()
	header := cacheHeader{Schema: federation.Schema, Prefix: r.keys.root, Revision: r.view.revision}
	instances := make([]*federation.Instance, 0, len(r.view.instances))
	for _, i := range r.view.instances {
		instances = append(instances, i)
	}
	edges := make([]knownEdge, 0, len(r.view.edges))
	for _, e := range r.view.edges {
		if e.Zone != "" {
			edges = append(edges, e)
		}
	}
	r.mu.Unlock()
	header.SavedAt, header.Entries = time.Now().UTC(), len(instances)+len(edges)

	file, err := os.CreateTemp(filepath.Dir(r.opts.CachePath), filepath.Base(r.opts.CachePath)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	if err = r.writeCache(file, header, edges, instances); err != nil {
		return errors.Join(err, file.Close())
	}
	if err = file.Sync(); err != nil {
		return errors.Join(err, file.Close())
	}
	if err = file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), r.opts.CachePath)
}

func (r *Registry) writeCache(file *os.File, header cacheHeader, edges []knownEdge, instances []*federation.Instance) error {
	out := cacheWriter{w: bufio.NewWriterSize(file, 1<<16), sum: sha256.New()}
	head, err := json.Marshal(header)
	if err != nil {
		return err
	}
	out.line(head)
	for _, e := range edges {
		value, err := encodeEdge(e.Edge)
		if err != nil {
			return err
		}
		out.entry(r.keys.edge(e.ID), e.mod, federation.Fingerprint{}, value)
	}
	for _, i := range instances {
		value, err := federation.EncodeInstance(i)
		if err != nil {
			return err
		}
		// The fingerprint is kept, because a value that a newer version wrote
		// is not encoded here as it was there.
		out.entry(r.keys.instance(i.Key), i.Revision, i.Fingerprint, value)
	}
	out.line([]byte(hex.EncodeToString(out.sum.Sum(nil))))
	return out.w.Flush()
}

// cacheWriter adds lines to the file and to the checksum. The first error
// sticks to the bufio.Writer.
type cacheWriter struct {
	w   *bufio.Writer
	sum hash.Hash
	buf []byte
}

func (c *cacheWriter) entry(name string, mod int64, print federation.Fingerprint, value []byte) {
	b := append(c.buf[:0], name...)
	b = strconv.AppendInt(append(b, ' '), mod, 10)
	b = hex.AppendEncode(append(b, ' '), print[:])
	b = append(append(b, ' '), value...)
	c.line(b)
	c.buf = b
}

func (c *cacheWriter) line(b []byte) {
	for _, part := range [][]byte{b, {'\n'}} {
		_, _ = c.w.Write(part)
		_, _ = c.sum.Write(part)
	}
}

// readCache reads the cached snapshot and returns what puts it in place of
// none. A file that cannot be believed is as good as none.
func (r *Registry) readCache() (use func()) {
	if r.opts.CachePath == "" {
		return func() {}
	}
	data, err := os.ReadFile(r.opts.CachePath)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}
	}
	var header cacheHeader
	var l *listing
	if err == nil {
		header, l, err = r.parseCache(data)
	}
	if err != nil {
		return func() {
			r.log.Warn("cached snapshot is ignored", "path", r.opts.CachePath, "error", err)
		}
	}
	return func() {
		r.useCache(l, header.SavedAt)
		r.log.Info("etcd does not answer, cached snapshot is used",
			"instances", len(l.instances), "revision", l.revision, "saved", header.SavedAt)
	}
}

// parseCache reads the cache file's content.
func (r *Registry) parseCache(data []byte) (cacheHeader, *listing, error) {
	var header cacheHeader
	body, sum, ok := cutLastLine(data)
	if want := sha256.Sum256(body); !ok || string(sum) != hex.EncodeToString(want[:]) {
		return header, nil, errors.New("checksum is wrong")
	}
	line, rest, _ := bytes.Cut(body, []byte("\n"))
	if err := json.Unmarshal(line, &header); err != nil {
		return header, nil, fmt.Errorf("header: %w", err)
	}
	if header.Schema != federation.Schema || header.Prefix != r.keys.root {
		return header, nil, fmt.Errorf("schema %d, prefix %q: of another version or federation", header.Schema, header.Prefix)
	}
	var kvs []*mvccpb.KeyValue
	var prints []federation.Fingerprint
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		fields := bytes.SplitN(line, []byte(" "), 4)
		if len(fields) != 4 {
			return header, nil, errors.New("entry is ill-formed")
		}
		mod, err := strconv.ParseInt(string(fields[1]), 10, 64)
		var print federation.Fingerprint
		if n, hexErr := hex.Decode(print[:], fields[2][:min(len(fields[2]), 2*len(print))]); err != nil || hexErr != nil || n != len(print) {
			return header, nil, errors.New("entry has no revision or fingerprint")
		}
		prints = append(prints, print)
		kvs = append(kvs, &mvccpb.KeyValue{Key: fields[0], Value: fields[3], ModRevision: mod})
	}
	if len(kvs) != header.Entries {
		return header, nil, fmt.Errorf("%d entries, %d announced", len(kvs), header.Entries)
	}
	l := newListing()
	l.revision = header.Revision
	r.decodePage(l, kvs, prints, make(intern))
	return header, l, nil
}

func cutLastLine(data []byte) (body, line []byte, ok bool) {
	data, ok = bytes.CutSuffix(data, []byte("\n"))
	n := bytes.LastIndexByte(data, '\n') + 1
	return data[:n], data[n:], ok
}

// useCache makes a cached listing the view and the sink's whole. It is not
// live: nothing is adopted or removed on its word.
func (r *Registry) useCache(l *listing, savedAt time.Time) {
	now := time.Now()
	next := newView(r.self)
	next.revision = l.revision
	for _, i := range l.instances {
		next.lamport = max(next.lamport, i.Stamp.Lamport)
		next.put(i, now)
	}
	for _, e := range l.edges {
		if e.ID != r.self {
			e.seen = now
			next.edges[e.ID] = e
		}
	}
	r.mu.Lock()
	r.view = next
	r.mu.Unlock()

	r.opts.Clock.Witness(next.lamport)
	r.reportBroken(l)
	r.tellEdges(nil, next.edges)
	r.opts.Sink.Replace(l.instances, l.revision)
	r.state.cached(savedAt)
	r.readyOnce.Do(func() { close(r.ready) })
}
