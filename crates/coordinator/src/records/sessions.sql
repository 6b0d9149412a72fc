CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    owner_name TEXT NOT NULL,
    group_name TEXT NOT NULL,
    host_type TEXT NOT NULL,
    setting TEXT NOT NULL,
    created BIGINT NOT NULL,
    idle_seconds BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    machine TEXT,
    lease TEXT,
    fence BIGINT,
    granted BIGINT,
    found TEXT,
    made BIGINT,
    ended BIGINT,
    reason TEXT NOT NULL DEFAULT ''
);
CREATE INDEX sessions_live ON sessions (id) WHERE ended IS NULL;
CREATE INDEX sessions_by_name ON sessions (name, created);
CREATE INDEX sessions_by_machine ON sessions (machine, granted);
CREATE INDEX sessions_ended ON sessions (ended) WHERE ended IS NOT NULL;
