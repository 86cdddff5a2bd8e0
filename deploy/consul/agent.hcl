# Every machine with a Consul agent: the five servers, and machines with an edge
# and no server. README.md explains each setting.
datacenter = "dc1"
data_dir   = "/var/lib/consul"

# The API is for the edge on this machine alone; edges ask for nothing else.
client_addr = "127.0.0.1"

# The servers, by address: names would need a DNS that survives.
retry_join = [
  "192.0.2.11",    # az1
  "192.0.2.12",    # az2
  "198.51.100.13", # az3
  "203.0.113.14",  # w1
  "203.0.113.15",  # w2
]
retry_interval = "2s"

# A restarted agent is missed for a moment, not gone.
leave_on_terminate      = false
skip_leave_on_interrupt = true

performance {
  rpc_hold_timeout = "1s"
}

gossip_lan {
  probe_interval  = "200ms"
  probe_timeout   = "100ms"
  gossip_interval = "50ms"
  suspicion_mult  = 3
  retransmit_mult = 20
}

# The edges answer DNS themselves, by weight, which Consul's does not.
ports {
  dns = -1
}

acl {
  enabled                  = true
  default_policy           = "deny"
  down_policy              = "extend-cache"
  enable_token_persistence = true
}

disable_update_check = true
