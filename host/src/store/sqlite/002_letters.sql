-- What became of a message so far, and everything that is needed to send it again.

-- JSON: {"first_ms": ..., "last": [{"attempt": ..., "at_ms": ..., "reason": ..., "error": ...}, ...]}
ALTER TABLE messages ADD COLUMN history TEXT;

ALTER TABLE dead_letters ADD COLUMN key TEXT;
ALTER TABLE dead_letters ADD COLUMN route INTEGER;
-- When the message was published.
ALTER TABLE dead_letters ADD COLUMN published_ms INTEGER;
-- As in messages, with the last attempt.
ALTER TABLE dead_letters ADD COLUMN history TEXT;

-- For counting, and for those that were kept long enough.
CREATE INDEX dead_letters_at ON dead_letters (at_ms);
