# Agents know each other by certificates of one authority. A server's carries
# the name server.dc1.consul, so that no other agent passes for one.
ca_file   = "/etc/consul.d/tls/ca.pem"
cert_file = "/etc/consul.d/tls/agent.pem"
key_file  = "/etc/consul.d/tls/agent-key.pem"

verify_incoming_rpc    = true
verify_outgoing        = true
verify_server_hostname = true
