# Who gets it: whoever compares Vault's own audit log with the audit trail, and counts what is in
#      use. A person or a job outside the pipelines.
# Can: see which audit devices, engines, logins, policies, keys, tokens and leases there are, and
#      what a value it already knows looks like in the audit log.
# Cannot: change anything, read a secret, use a key, renew or revoke what is not its own. It sees
#      accessors of tokens, never tokens.
# Give it without Vault's default policy (token_no_default_policy): everything it needs is here.

# Vault asks for "sudo" on some addresses that only tell.
path "sys/audit" { capabilities = ["read", "sudo"] }

# Answers with the HMAC under which the audit log has a value; stores nothing.
path "sys/audit-hash/file" { capabilities = ["update"] }

path "sys/mounts"         { capabilities = ["read"] }
path "sys/auth"           { capabilities = ["read"] }
path "sys/policies/acl"   { capabilities = ["list"] }
path "sys/policies/acl/*" { capabilities = ["read"] }

path "sys/leases/lookup"   { capabilities = ["update"] }
path "sys/leases/lookup/*" { capabilities = ["list", "sudo"] }

path "auth/token/accessors"       { capabilities = ["list", "sudo"] }
path "auth/token/lookup-accessor" { capabilities = ["update"] }

# Versions and settings of keys, and public halves; never a key.
path "transit/keys"   { capabilities = ["list"] }
path "transit/keys/+" { capabilities = ["read"] }

# Its own token: look at it, renew it, end it when the work is done.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self"  { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
