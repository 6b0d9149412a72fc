-- Names that are words of SQL have an ending: `commit_hash`, `git_ref`. Times are microseconds since 1970 UTC.

CREATE TABLE meta (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE plans (
    digest TEXT NOT NULL PRIMARY KEY,
    plan TEXT NOT NULL
);

CREATE TABLE builds (
    number BIGINT NOT NULL PRIMARY KEY,
    repository TEXT NOT NULL,
    builder TEXT NOT NULL,
    commit_hash TEXT NOT NULL,
    variant TEXT NOT NULL,
    plan TEXT NOT NULL,
    snapshot_base TEXT NOT NULL,
    subject TEXT NOT NULL,
    author TEXT NOT NULL,
    git_ref TEXT NOT NULL,
    class TEXT NOT NULL,
    is_try BIGINT NOT NULL,
    commit_time BIGINT NOT NULL,
    created BIGINT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    waiting_since BIGINT NOT NULL,
    resting_until BIGINT,
    last_fault TEXT NOT NULL DEFAULT '',
    started BIGINT,
    ended BIGINT,
    outcome TEXT,
    reason TEXT NOT NULL DEFAULT '',
    UNIQUE (commit_hash, builder, repository, variant)
);
CREATE INDEX builds_active ON builds (number) WHERE outcome IS NULL;
CREATE INDEX builds_by_builder ON builds (builder, repository, number);
CREATE INDEX builds_ended ON builds (ended) WHERE outcome IS NOT NULL;

CREATE TABLE commits (
    repository TEXT NOT NULL,
    git_ref TEXT NOT NULL,
    place BIGINT NOT NULL,
    commit_hash TEXT NOT NULL,
    subject TEXT NOT NULL,
    author TEXT NOT NULL,
    time BIGINT NOT NULL,
    PRIMARY KEY (repository, git_ref, commit_hash)
);
CREATE INDEX commits_by_place ON commits (repository, git_ref, place);

CREATE TABLE refs (
    repository TEXT NOT NULL,
    git_ref TEXT NOT NULL,
    commit_hash TEXT NOT NULL,
    PRIMARY KEY (repository, git_ref)
);

CREATE TABLE attempts (
    build BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    started BIGINT NOT NULL,
    stage TEXT NOT NULL,
    snapshot TEXT,
    make_exec TEXT,
    list_exec TEXT,
    helper_faults BIGINT NOT NULL,
    ended BIGINT,
    outcome TEXT,
    reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (build, attempt)
);

CREATE TABLE shards (
    build BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    shard BIGINT NOT NULL,
    tests TEXT NOT NULL,
    estimates TEXT NOT NULL,
    outcome TEXT,
    lease TEXT,
    tries BIGINT NOT NULL,
    exec TEXT,
    machine TEXT,
    started BIGINT,
    ended BIGINT,
    note TEXT NOT NULL,
    PRIMARY KEY (build, attempt, shard)
);

CREATE TABLE steps (
    build BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    step BIGINT NOT NULL,
    phase TEXT NOT NULL,
    machine TEXT,
    shard BIGINT NOT NULL,
    started BIGINT NOT NULL,
    ended BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (build, attempt, step)
);
CREATE INDEX steps_by_end ON steps (ended);

CREATE TABLE leases (
    id TEXT NOT NULL PRIMARY KEY,
    fence BIGINT NOT NULL,
    machine TEXT NOT NULL,
    build BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    role TEXT NOT NULL,
    task TEXT NOT NULL,
    task_since BIGINT NOT NULL,
    granted BIGINT NOT NULL,
    make_exec TEXT,
    test_exec TEXT,
    ended BIGINT,
    reason TEXT NOT NULL DEFAULT ''
);
CREATE INDEX leases_live ON leases (id) WHERE ended IS NULL;
CREATE INDEX leases_by_build ON leases (build, attempt);

CREATE TABLE execs (
    id TEXT NOT NULL PRIMARY KEY,
    lease TEXT NOT NULL,
    build BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    kind TEXT NOT NULL,
    shard BIGINT NOT NULL
);
CREATE INDEX execs_by_build ON execs (build, attempt);

CREATE TABLE machines (
    name TEXT NOT NULL PRIMARY KEY,
    host_types TEXT NOT NULL,
    version TEXT NOT NULL,
    platform TEXT NOT NULL,
    reuse TEXT NOT NULL,
    work_folder TEXT NOT NULL,
    pid BIGINT NOT NULL,
    since BIGINT NOT NULL
);

CREATE TABLE snapshots (
    id TEXT NOT NULL PRIMARY KEY,
    bytes BIGINT NOT NULL,
    created BIGINT NOT NULL
);

CREATE TABLE timings (
    builder TEXT NOT NULL,
    test TEXT NOT NULL,
    millis BIGINT NOT NULL,
    PRIMARY KEY (builder, test)
);

CREATE TABLE requests (
    id TEXT NOT NULL PRIMARY KEY,
    builds TEXT NOT NULL,
    created BIGINT NOT NULL
);

CREATE TABLE outbox (
    build BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    PRIMARY KEY (build, attempt)
);
