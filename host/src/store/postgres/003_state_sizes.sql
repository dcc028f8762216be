-- How much each plugin keeps, so that nobody has to count it: bytes of its keys and values. Whoever changes the state of a
-- plugin holds a lock of it, so that nobody waits for a row of these longer than for that.

CREATE TABLE state_sizes (
    plugin text COLLATE "C" PRIMARY KEY,
    bytes  bigint NOT NULL
) WITH (fillfactor = 50);

LOCK TABLE state IN SHARE ROW EXCLUSIVE MODE;

INSERT INTO state_sizes (plugin, bytes)
SELECT plugin, sum(octet_length(key) + octet_length(value)) FROM state GROUP BY plugin;

CREATE FUNCTION state_added() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO state_sizes AS s (plugin, bytes)
    SELECT plugin, sum(octet_length(key) + octet_length(value)) FROM added GROUP BY plugin ORDER BY plugin
    ON CONFLICT (plugin) DO UPDATE SET bytes = s.bytes + excluded.bytes;
    RETURN NULL;
END $$;

CREATE FUNCTION state_removed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE state_sizes AS s SET bytes = s.bytes - gone.bytes
    FROM (
        SELECT plugin, sum(octet_length(key) + octet_length(value)) AS bytes FROM removed GROUP BY plugin
    ) AS gone
    WHERE s.plugin = gone.plugin;
    RETURN NULL;
END $$;

CREATE FUNCTION state_changed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE state_sizes AS s SET bytes = s.bytes + changed.bytes
    FROM (
        SELECT plugin, sum(bytes) AS bytes FROM (
            SELECT plugin, octet_length(key) + octet_length(value) AS bytes FROM added
            UNION ALL
            SELECT plugin, -octet_length(key) - octet_length(value) FROM removed
        ) AS both_sides GROUP BY plugin
    ) AS changed
    WHERE s.plugin = changed.plugin;
    RETURN NULL;
END $$;

CREATE TRIGGER state_added AFTER INSERT ON state
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION state_added();
CREATE TRIGGER state_changed AFTER UPDATE ON state
    REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION state_changed();
CREATE TRIGGER state_removed AFTER DELETE ON state
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION state_removed();
