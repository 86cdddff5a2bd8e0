# The standby zone.
node_name = "az3"
bind_addr = "198.51.100.13"
