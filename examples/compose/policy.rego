package app

import rego.v1

default allow := false

# Anybody may read what is public; all else needs a key.
allow if startswith(input.attributes.request.http.path, "/public")

allow if input.attributes.request.http.headers["x-api-key"] in {"alice", "bob"}
