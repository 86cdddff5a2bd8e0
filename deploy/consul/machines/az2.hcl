# A primary zone.
node_name = "az2"
bind_addr = "192.0.2.12"
