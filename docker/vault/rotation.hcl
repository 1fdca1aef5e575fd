# Who gets it: the job that rotates keys and rewraps what older versions wrapped.
# Can: make a new version of "data" and "pipeline", have wrapped file keys of "data" wrapped anew
#      by Vault, which gives back ciphertext only, and say which is the oldest version still used.
# Cannot: unwrap or wrap anything, sign, make a key exportable or deletable, delete or export one.
#      Whoever steals this token can make data unreadable for a while, and read none of it.
# Give it without Vault's default policy (token_no_default_policy): everything it needs is here.

path "transit/rewrap/data" { capabilities = ["update"] }

path "transit/keys/data/rotate"     { capabilities = ["update"] }
path "transit/keys/pipeline/rotate" { capabilities = ["update"] }

path "transit/keys/data"     { capabilities = ["read"] }
path "transit/keys/pipeline" { capabilities = ["read"] }

# The same address also makes a key exportable or deletable: only the versions may be named.
path "transit/keys/data/config" {
  capabilities       = ["update"]
  allowed_parameters = {
    "min_decryption_version" = []
    "min_encryption_version" = []
  }
}

# Its own token: look at it, renew it, end it when the work is done.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self"  { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
