# Who gets it: tasks that declare credentials=, and through them the guardian, which renews and
#      revokes while they run.
# Can: lease a login of the database role "reader", read the secrets of pipelines, renew and
#      revoke a lease whose id it holds.
# Cannot: lease another role, write or list secrets, change how roles are made, revoke by prefix.
#      A lease's id is as hard to guess as a token, so it cannot revoke what others lease.
# The token's own end also ends its leases: give its AppRole a short token_ttl.
# Give it without Vault's default policy (token_no_default_policy): everything it needs is here.

path "database/creds/reader" { capabilities = ["read"] }

# A KV engine of version 2, mounted at kv/: what "kv put kv/pipelines/NAME" wrote.
path "kv/data/pipelines/*" { capabilities = ["read"] }

path "sys/leases/renew"  { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }

# Its own token: look at it, renew it, end it when the work is done.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self"  { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
