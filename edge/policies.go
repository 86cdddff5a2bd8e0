package edge

import (
	"github.com/grayfed/grayfed/edge/admission"
	"github.com/grayfed/grayfed/edge/config"
	"github.com/grayfed/grayfed/edge/gateway"
)

// gatewayPolicy is a service's policy as the gateway takes it.
func gatewayPolicy(p *config.ServicePolicy) gateway.Policy {
	policy := gateway.Policy{
		Hash:               hashKeys(p.Hash),
		LoadBound:          p.LoadBound,
		MaxRequests:        p.MaxRequests,
		MaxServiceRequests: p.MaxServiceRequests,
		Queue:              admission.Options{Size: p.Queue.Size, Wait: p.Queue.Timeout},
		Breaker:            p.Breaker,
	}
	switch p.Balance {
	case config.BalanceWeighted:
		policy.Balance = gateway.WeightedRoundRobin
	case config.BalanceHash:
		policy.Balance = gateway.ConsistentHash
	case config.BalanceP2C:
	}
	return policy
}

func hashKeys(keys []config.HashKey) []gateway.HashKey {
	var out []gateway.HashKey
	for _, key := range keys {
		switch {
		case key.Header != "":
			out = append(out, gateway.HashKey{Source: gateway.HashHeader, Name: key.Header})
		case key.Cookie != "":
			out = append(out, gateway.HashKey{Source: gateway.HashCookie, Name: key.Cookie})
		case key.Query != "":
			out = append(out, gateway.HashKey{Source: gateway.HashQuery, Name: key.Query})
		case key.ClientIP:
			out = append(out, gateway.HashKey{Source: gateway.HashClientIP})
		}
	}
	return out
}

func retryOn(reasons []string) (on gateway.RetryOn) {
	for _, reason := range reasons {
		switch reason {
		case config.RetryReset:
			on |= gateway.RetryReset
		case config.RetryTimeout:
			on |= gateway.RetryTimeout
		case config.RetryGatewayError:
			on |= gateway.RetryGatewayError
		case config.RetryUnavailable:
			on |= gateway.RetryUnavailable
		}
	}
	return on
}
