# What an edge's token may do: its own service, and reading the nodes that the
# entries of the others are on. Consul grants services by name, so all edges
# share this one; that an edge writes its own entry alone is the edge's doing.
service "grayfed-gateway" {
  policy = "write"
}

node_prefix "" {
  policy = "read"
}
