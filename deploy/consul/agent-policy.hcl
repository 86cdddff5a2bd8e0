# What an agent's own token may do: keep its node in the catalog, and see what
# is registered there. An edge's entry is written with the edge's token.
node_prefix "" {
  policy = "write"
}

service_prefix "" {
  policy = "read"
}
