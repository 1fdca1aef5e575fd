# Who gets it: tasks that open sealed data, such as a training.
# Can: unwrap file keys that were wrapped with the key "data", for the context they were made for,
#      and read which versions that key has.
# Cannot: wrap anything (what it writes needs pipeline-writer, too), rotate or export the key, use
#      or see any other key.
# Give it without Vault's default policy (token_no_default_policy): everything it needs is here.

path "transit/decrypt/data" { capabilities = ["update"] }

# Facts only: versions, and that the key is derived.
path "transit/keys/data" { capabilities = ["read"] }

# Its own token: look at it, renew it, end it when the work is done.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self"  { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
