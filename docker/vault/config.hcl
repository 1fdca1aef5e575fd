# A Vault of one node for the pipelines: its own storage, TLS only, nothing in clear on the network.
# Run it with `vault server -config config.hcl`, or OpenBao with `bao server -config config.hcl`.

# Three or five nodes in production, each with its own node_id and a retry_join for each other one.
storage "raft" {
  path    = "/vault/data"
  node_id = "one"
}

listener "tcp" {
  address         = "0.0.0.0:8200"
  cluster_address = "0.0.0.0:8201"
  tls_cert_file   = "/vault/tls/server.pem"
  tls_key_file    = "/vault/tls/server.key"
  tls_min_version = "tls12"

  # A certificate of destruction names each object that was lost, and Vault signs it as one string:
  # with the default of 1 MiB that is some 4,000 objects, with this a hundred thousand.
  max_json_string_value_length = 33554432
}

# The name that stands in the certificate and that clients use.
api_addr     = "https://vault:8200"
cluster_addr = "https://vault:8201"

# Raft's memory-mapped files would be locked as well; forbid swap on the machine instead.
disable_mlock = true
ui            = false

# No lease or token outlives a day, whatever a role says.
max_lease_ttl     = "24h"
default_lease_ttl = "10m"

# An audit device is no part of this file. Enable two before anything else, on separate disks:
#   vault audit enable file file_path=/vault/logs/audit.jsonl
# Vault then answers nothing that it could not record; values in the log are HMACs, since log_raw
# is off unless somebody asks for it. With OpenBao it is a part of this file:
#   audit "file" "file" { options = { file_path = "/vault/logs/audit.jsonl" } }
