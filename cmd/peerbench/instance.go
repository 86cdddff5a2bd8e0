package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// instanceCommand is the hidden first argument that turns this binary into an
// instance of mode kill.
const instanceCommand = "instance"

// instanceName says which instance answered.
type instanceName struct {
	Version  string `json:"version"`
	Zone     string `json:"zone"`
	Instance string `json:"instance"`
}

// instanceMain serves one instance until it is killed. It prints its address on
// one line once it listens. It thinks before each answer, so that requests are
// under way when it is killed.
func instanceMain(args []string, stdout io.Writer) error {
	var me instanceName
	flags := flag.NewFlagSet(instanceCommand, flag.ContinueOnError)
	flags.StringVar(&me.Version, "version", "", "its version")
	flags.StringVar(&me.Zone, "zone", "", "its zone")
	flags.StringVar(&me.Instance, "id", "", "its id")
	think := flags.Duration("think", 0, "time before an answer")
	if err := flags.Parse(args); err != nil {
		return err
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for requests: %w", err)
	}
	if _, err := fmt.Fprintln(stdout, listener.Addr()); err != nil {
		return fmt.Errorf("print the address: %w", err)
	}
	server := &http.Server{Handler: instanceHandler(me, *think), ReadHeaderTimeout: callTimeout}
	return server.Serve(listener)
}

func instanceHandler(me instanceName, think time.Duration) http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(me) // a client that is gone needs no answer
	}
	mux.HandleFunc("/healthz", answer)
	mux.HandleFunc(pathPrefix+"{id}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // what is missing of it is the client's loss
		time.Sleep(think)
		answer(w, r)
	})
	return mux
}

// startInstance starts one instance process.
func startInstance(dir string, me instanceName, think time.Duration) (*backend, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	p, err := start(command{
		Name: me.Instance, Path: self, Dir: dir, Death: syscall.SIGKILL, FirstLine: true,
		Args: []string{instanceCommand, "-version", me.Version, "-zone", me.Zone, "-id", me.Instance, "-think", think.String()},
	})
	if err != nil {
		return nil, err
	}
	addr, err := netip.ParseAddrPort(p.line)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("address of an instance: %w", err), p.end())
	}
	return &backend{child: p, addr: addr}, nil
}
