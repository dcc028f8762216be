-- The size of a plugin's state as differences that are summed up now and then, instead of one row that every change
-- updates: while an old snapshot keeps the database from cleaning up, no chain of versions grows. A change that leaves the
-- size as it was adds nothing.

ALTER TABLE state_sizes DROP CONSTRAINT state_sizes_pkey;
ALTER TABLE state_sizes RESET (fillfactor);
ALTER TABLE state_sizes SET (
    autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX state_sizes_plugin ON state_sizes (plugin);

CREATE OR REPLACE FUNCTION state_added() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO state_sizes (plugin, bytes)
    SELECT plugin, sum(octet_length(key) + octet_length(value)) FROM added GROUP BY plugin;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION state_removed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO state_sizes (plugin, bytes)
    SELECT plugin, -sum(octet_length(key) + octet_length(value)) FROM removed GROUP BY plugin;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION state_changed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO state_sizes (plugin, bytes)
    SELECT plugin, sum(bytes) FROM (
        SELECT plugin, octet_length(key) + octet_length(value) AS bytes FROM added
        UNION ALL
        SELECT plugin, -octet_length(key) - octet_length(value) FROM removed
    ) AS both_sides GROUP BY plugin HAVING sum(bytes) <> 0;
    RETURN NULL;
END $$;
