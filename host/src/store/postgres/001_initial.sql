-- The data of all Sandbar hosts that share this schema. Times are those of the database, never of a host.

-- One row. `topology` grows whenever a queue is declared, changed or deleted.
CREATE TABLE meta (
    schema_version int NOT NULL,
    topology       bigint NOT NULL
);
INSERT INTO meta VALUES (1, 1);

-- The hosts that live, and how long that is certain.
CREATE TABLE hosts (
    id        text PRIMARY KEY,
    until     timestamptz NOT NULL,
    -- JSON: how many of its receivers waited when it said so, by the number of the queue.
    receivers text NOT NULL
);

CREATE TABLE queues (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- NULL: deleted, its messages are being removed.
    name  text UNIQUE,
    grp   text NOT NULL,
    -- JSON: {"topics": [...], "dead_letter": ..., "lease_ms": ..., "ephemeral": ...}
    spec  text NOT NULL,
    -- The host with which an ephemeral queue ends.
    owner text
);

-- Numbers of messages, in the order of their publishing.
CREATE SEQUENCE message_ids;

-- Every message that is ready or in flight; it is deleted when it is settled. Of one key in a queue at most one is here.
-- A claim changes columns without an index only and finds room in the same page, so it writes no index (HOT).
CREATE TABLE messages (
    queue    bigint NOT NULL,
    id       bigint NOT NULL,
    -- '-infinity': now. In flight: when the lease ends.
    ready_at timestamptz NOT NULL,
    at       timestamptz NOT NULL,
    -- Of the last claim; whoever has another one is too late.
    fence    bigint NOT NULL,
    attempts int NOT NULL,
    topic    text NOT NULL,
    key      bytea,
    -- JSON: {"id": ..., "reply_topic": ..., "strategy": ..., "status": ..., "headers": [[name, value], ...], ...}
    meta     text NOT NULL,
    body     bytea NOT NULL,
    -- JSON: {"first_ms": ..., "last": [{"attempt": ..., "at_ms": ..., "reason": ..., "error": ...}, ...]}
    history  text,
    PRIMARY KEY (queue, id)
) WITH (
    fillfactor = 50, vacuum_truncate = off,
    autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX messages_key ON messages (queue, key) WHERE key IS NOT NULL;

-- Messages that wait for others of their key, which are in `messages` or wait in `later` for another attempt.
CREATE TABLE parked (
    queue bigint NOT NULL,
    key   bytea NOT NULL,
    id    bigint NOT NULL,
    at    timestamptz NOT NULL,
    topic text NOT NULL,
    meta  text NOT NULL,
    body  bytea NOT NULL,
    PRIMARY KEY (queue, key, id)
) WITH (vacuum_truncate = off, autovacuum_vacuum_cost_delay = 0);

-- Messages that are delayed or wait for another attempt; these hold their key.
CREATE TABLE later (
    due      timestamptz NOT NULL,
    id       bigint NOT NULL,
    queue    bigint NOT NULL,
    at       timestamptz NOT NULL,
    attempts int NOT NULL,
    topic    text NOT NULL,
    key      bytea,
    meta     text NOT NULL,
    body     bytea NOT NULL,
    history  text,
    PRIMARY KEY (due, id)
) WITH (vacuum_truncate = off, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX later_key ON later (queue, key);

-- Messages of topics to which no queue is bound.
CREATE TABLE kept (
    topic text COLLATE "C" NOT NULL,
    id    bigint NOT NULL,
    at    timestamptz NOT NULL,
    due   timestamptz NOT NULL,
    key   bytea,
    meta  text NOT NULL,
    body  bytea NOT NULL,
    PRIMARY KEY (topic, id)
);

CREATE TABLE state (
    plugin  text COLLATE "C" NOT NULL,
    key     text COLLATE "C" NOT NULL,
    -- Of the value, chosen by who wrote it; never 0, which stands for no value.
    version bigint NOT NULL,
    value   bytea NOT NULL,
    PRIMARY KEY (plugin, key)
) WITH (fillfactor = 80);

CREATE TABLE dead_letters (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms        bigint NOT NULL,
    topic        text NOT NULL,
    reason       text NOT NULL,
    plugin       text,
    digest       text,
    error        text NOT NULL,
    queue        text NOT NULL,
    attempts     bigint NOT NULL,
    meta         text NOT NULL,
    body         bytea NOT NULL,
    key          bytea,
    route        bigint,
    published_ms bigint NOT NULL,
    history      text NOT NULL
);
CREATE INDEX dead_letters_at ON dead_letters (at_ms);

-- Contents are not worth compressing for the time that they are here.
ALTER TABLE messages ALTER body SET STORAGE EXTERNAL;
ALTER TABLE parked ALTER body SET STORAGE EXTERNAL;
ALTER TABLE later ALTER body SET STORAGE EXTERNAL;

-- For people: what waits where.
CREATE VIEW waiting AS
SELECT coalesce(queues.name, '(deleted)') AS queue, all_of_them.*
FROM (
    SELECT queue AS queue_id, id, topic, convert_from(key, 'UTF8') AS key, attempts, at AS published,
        CASE WHEN ready_at > now() THEN 'in flight until ' || ready_at ELSE 'ready' END AS state, length(body) AS bytes
    FROM messages
    UNION ALL
    SELECT queue, id, topic, convert_from(key, 'UTF8'), 0, at, 'behind its key', length(body) FROM parked
    UNION ALL
    SELECT queue, id, topic, convert_from(key, 'UTF8'), attempts, at, 'due at ' || due, length(body) FROM later
) AS all_of_them LEFT JOIN queues ON queues.id = all_of_them.queue_id
ORDER BY queue_id, id;
