# Who gets it: tasks that write sealed data and never read it back, such as an ingest.
# Can: wrap file keys with the key "data", and read which versions that key has.
# Cannot: unwrap what it wrapped, rotate or export the key, use or see any other key.
# Give it without Vault's default policy (token_no_default_policy): everything it needs is here.

path "transit/encrypt/data" { capabilities = ["update"] }

# Facts only: versions, and that the key is derived, which is checked before its first use.
path "transit/keys/data" { capabilities = ["read"] }

# Its own token: look at it, renew it, end it when the work is done.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self"  { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
