# A witness: a server without an edge, outside of the three zones.
node_name = "w2"
bind_addr = "203.0.113.15"
