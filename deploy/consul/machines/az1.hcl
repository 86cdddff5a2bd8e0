# A primary zone.
node_name = "az1"
bind_addr = "192.0.2.11"
