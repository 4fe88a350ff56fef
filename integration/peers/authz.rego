package gateway

request := input.attributes.request.http

token := request.headers.authorization

# Who asks with which token.
users := {"Bearer alice-token": "alice", "Bearer bob-token": "bob"}

# Only alice may write.
may_write if users[token] == "alice"

reads if request.method == "GET"

default reply := {
	"status": {"code": 16},
	"deniedResponse": {
		"status": {"code": 401},
		"headers": [{"header": {"key": "www-authenticate", "value": "Bearer"}}],
		"body": "who are you?",
	},
}

allowed(user) := {
	"status": {"code": 0},
	"okResponse": {
		"headers": [{"header": {"key": "x-user", "value": user}}],
		"headersToRemove": ["authorization"],
		"responseHeadersToAdd": [{"header": {"key": "x-policy", "value": "rego"}}],
	},
	"dynamicMetadata": {"user": user},
}

reply := allowed(users[token]) if reads

reply := allowed(users[token]) if {
	not reads
	may_write
}

reply := {"status": {"code": 7}, "deniedResponse": {"status": {"code": 403}}} if {
	users[token]
	not reads
	not may_write
}
