-- What was tried of changes under review, one row a set; those that `open` are asked for still.
CREATE TABLE tries (
    id TEXT NOT NULL PRIMARY KEY,
    repository TEXT NOT NULL,
    number BIGINT NOT NULL,
    patch_set BIGINT NOT NULL,
    commit_hash TEXT NOT NULL,
    base TEXT,
    ask TEXT NOT NULL,
    open BIGINT NOT NULL,
    begun BIGINT NOT NULL,
    ended BIGINT,
    outcome TEXT,
    builds TEXT NOT NULL,
    notes TEXT NOT NULL
);
CREATE INDEX tries_open ON tries (id) WHERE open = 1;
CREATE INDEX tries_by_change ON tries (number, begun);

-- What is to be said of changes, and was: a row is kept, so that nothing is said twice.
CREATE TABLE words (
    id TEXT NOT NULL,
    word TEXT NOT NULL,
    created BIGINT NOT NULL,
    said BIGINT,
    note TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (id, word)
);
CREATE INDEX words_unsaid ON words (created) WHERE said IS NULL;
