"""Every step of the schema, one file each; a released one stays as it is."""
