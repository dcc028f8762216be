-- How much each plugin keeps, so that nobody has to count it: bytes of its keys and values.

CREATE TABLE state_sizes (
    plugin TEXT NOT NULL PRIMARY KEY,
    bytes  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO state_sizes (plugin, bytes)
SELECT plugin, sum(length(CAST(key AS BLOB)) + length(value)) FROM state GROUP BY plugin;

CREATE TRIGGER state_added AFTER INSERT ON state BEGIN
    INSERT INTO state_sizes (plugin, bytes)
    VALUES (new.plugin, length(CAST(new.key AS BLOB)) + length(new.value))
    ON CONFLICT (plugin) DO UPDATE SET bytes = bytes + excluded.bytes;
END;

CREATE TRIGGER state_changed AFTER UPDATE ON state BEGIN
    UPDATE state_sizes SET bytes = bytes + length(new.value) - length(old.value) WHERE plugin = new.plugin;
END;

CREATE TRIGGER state_removed AFTER DELETE ON state BEGIN
    UPDATE state_sizes SET bytes = bytes - length(CAST(old.key AS BLOB)) - length(old.value) WHERE plugin = old.plugin;
END;
