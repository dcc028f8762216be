-- The data of one Sandbar host. Times are milliseconds since 1970-01-01 UTC.

CREATE TABLE queues (
    id    INTEGER PRIMARY KEY AUTOINCREMENT,
    name  TEXT NOT NULL UNIQUE,
    grp   TEXT NOT NULL,
    -- JSON: {"topics": [...], "dead_letter": ..., "lease_ms": ..., "ephemeral": ...}
    spec  TEXT NOT NULL
) STRICT;

-- Every message that waits or is in flight; it is deleted when it is settled.
CREATE TABLE messages (
    id       INTEGER PRIMARY KEY,
    -- queues.id, or 0: kept in its topic until a queue is bound to it.
    queue    INTEGER NOT NULL,
    -- When it is delivered at the earliest; 0: at once.
    due      INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    -- When it was published.
    at       INTEGER NOT NULL,
    topic    TEXT NOT NULL,
    key      TEXT,
    -- JSON: {"id": ..., "reply_topic": ..., "strategy": ..., "status": ..., "headers": [[name, value], ...], ...}
    meta     TEXT NOT NULL,
    body     BLOB NOT NULL
) STRICT;

CREATE INDEX messages_ready ON messages (queue) WHERE due = 0 AND queue <> 0;
CREATE INDEX messages_due ON messages (queue, due) WHERE due > 0 AND queue <> 0;
CREATE INDEX messages_kept ON messages (topic) WHERE queue = 0;

CREATE TABLE state (
    plugin TEXT NOT NULL,
    key    TEXT NOT NULL,
    value  BLOB NOT NULL,
    PRIMARY KEY (plugin, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letters (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL,
    reason   TEXT NOT NULL,
    plugin   TEXT,
    digest   TEXT,
    error    TEXT NOT NULL,
    queue    TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    meta     TEXT NOT NULL,
    body     BLOB NOT NULL
) STRICT;

-- For people: what waits where.
CREATE VIEW waiting AS
SELECT
    coalesce(queues.name, '(no queue yet)') AS queue,
    messages.id,
    messages.topic,
    messages.key,
    messages.attempts,
    datetime(messages.at / 1000, 'unixepoch') AS published,
    iif(messages.due = 0, NULL, datetime(messages.due / 1000, 'unixepoch')) AS due,
    length(messages.body) AS bytes
FROM messages LEFT JOIN queues ON queues.id = messages.queue
ORDER BY messages.id;
