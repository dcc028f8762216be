-- What was committed, for whoever lost the connection before the answer came.

CREATE SEQUENCE writer_ids;

-- Connections that write messages. Without its row here, nobody can tell any more what became of its transactions.
CREATE TABLE writers (
    id   bigint PRIMARY KEY DEFAULT nextval('writer_ids'),
    host text NOT NULL,
    at   timestamptz NOT NULL DEFAULT statement_timestamp()
);

-- A row for each transaction of a writer, written by that transaction; few are kept.
CREATE TABLE commits (
    writer bigint NOT NULL,
    number bigint NOT NULL,
    -- false: it was given up; the row is in its way, so that it can never be committed.
    done   boolean NOT NULL,
    PRIMARY KEY (writer, number)
) WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);
