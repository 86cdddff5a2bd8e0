# The five servers, witnesses included, beside agent.hcl.
server           = true
bootstrap_expect = 5

performance {
  raft_multiplier = 1
}

# A dead server stays a voter, so that it votes again the moment it is back.
autopilot {
  cleanup_dead_servers = false
}
