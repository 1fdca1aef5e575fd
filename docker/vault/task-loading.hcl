# Who gets it: tasks that fill the warehouse, beside task-leases: a login of theirs may write.
# Can: lease a login of the database role "loader".
# Cannot: anything else; what renews and revokes that login is in task-leases.
# Whoever only reads gets task-leases alone.

path "database/creds/loader" { capabilities = ["read"] }
