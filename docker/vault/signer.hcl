# Who gets it: tasks whose outputs others trust by the signature of "pipeline".
# Can: sign with the key "pipeline", and read its public halves, with which anybody verifies.
# Cannot: sign with another key, wrap or unwrap data, rotate or export the key.
# Give it without Vault's default policy (token_no_default_policy): everything it needs is here.

path "transit/sign/pipeline" { capabilities = ["update"] }

path "transit/keys/pipeline" { capabilities = ["read"] }

# Its own token: look at it, renew it, end it when the work is done.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self"  { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
