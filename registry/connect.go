package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
)

// ConnectOptions say how etcd is reached.
type ConnectOptions struct {
	// Endpoints are URLs, "http://host:port" or "https://host:port".
	Endpoints []string
	// CAFile, CertFile and KeyFile name PEM files. Without CAFile, the
	// system's roots count; CertFile and KeyFile go together.
	CAFile, CertFile, KeyFile string
	// Username and Password go together.
	Username, Password string
	// DialTimeout bounds one connection attempt; 2 s when 0.
	DialTimeout time.Duration
}

const (
	defaultDialTimeout = 2 * time.Second
	// deadAfter is how long etcd may leave what was sent to it
	// unacknowledged: gRPC sets it as the socket's TCP_USER_TIMEOUT, so a
	// member whose machine is gone is left after that, without a RST.
	deadAfter = 1500 * time.Millisecond
	// pingEvery is the least that gRPC's client does and twice what etcd's
	// server allows by default. This edge writes more often than that.
	pingEvery = 10 * time.Second
)

func (o ConnectOptions) validate() error {
	var wrong []error
	if len(o.Endpoints) == 0 {
		wrong = append(wrong, errors.New("no endpoint is given"))
	}
	secure := 0
	for _, endpoint := range o.Endpoints {
		switch {
		case strings.HasPrefix(endpoint, "https://"):
			secure++
		case !strings.HasPrefix(endpoint, "http://"):
			wrong = append(wrong, fmt.Errorf("endpoint %q: allowed http://host:port or https://host:port", endpoint))
		}
	}
	if secure != 0 && secure != len(o.Endpoints) {
		wrong = append(wrong, errors.New("endpoints must be all http or all https"))
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		wrong = append(wrong, errors.New("certificate and key go together"))
	}
	if (o.Username == "") != (o.Password == "") {
		wrong = append(wrong, errors.New("user name and password go together"))
	}
	if o.DialTimeout < 0 {
		wrong = append(wrong, fmt.Errorf("dial timeout %s: allowed more than 0", o.DialTimeout))
	}
	if len(wrong) > 0 {
		return fmt.Errorf("etcd connection: %w", errors.Join(wrong...))
	}
	return nil
}

// Connect returns a client of etcd, which the caller closes. It does not wait
// for etcd, so an edge starts without it too, and fails only on bad options
// and unreadable files.
func Connect(o ConnectOptions) (*clientv3.Client, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.DialTimeout == 0 {
		o.DialTimeout = defaultDialTimeout
	}
	cfg := clientv3.Config{
		Endpoints:            o.Endpoints,
		DialTimeout:          o.DialTimeout,
		DialKeepAliveTime:    pingEvery,
		DialKeepAliveTimeout: deadAfter,
		// What matters of its errors is returned and logged by the callers.
		Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			// gRPC's own wait grows to two minutes: too long for an etcd that
			// comes back.
			Backoff:           grpcbackoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: o.DialTimeout,
		})},
	}
	if strings.HasPrefix(o.Endpoints[0], "https://") {
		var err error
		if cfg.TLS, err = o.tls(); err != nil {
			return nil, fmt.Errorf("etcd connection: %w", err)
		}
	}
	if o.Username != "" {
		// Given a name and a password, New asks etcd for a token and fails
		// when etcd is away. Given a token it does not; etcd refuses this
		// one, and then the client asks for its own.
		cfg.Token = "none-yet"
	}
	client, err := clientv3.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("etcd connection: %w", err)
	}
	if o.Username != "" {
		client.Token, client.Username, client.Password = "", o.Username, o.Password
	}
	return client, nil
}

func (o ConnectOptions) tls() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read certificate authority: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("certificate authority %s: no certificate in it", o.CAFile)
		}
	}
	if o.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("load client certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}
