-- Builds that are begun again keep their number: `earlier` is how many attempts they had before. `doubt` is how a make step
-- failed that was made again, as JSON.
ALTER TABLE builds ADD COLUMN earlier BIGINT NOT NULL DEFAULT 0;
ALTER TABLE builds ADD COLUMN doubt TEXT;
-- The tests that are run again, as JSON, if not all.
ALTER TABLE builds ADD COLUMN only_tests TEXT;
-- What became of a machine's last commands, as JSON, and why it takes no work.
ALTER TABLE machines ADD COLUMN health TEXT;
ALTER TABLE machines ADD COLUMN quarantine TEXT NOT NULL DEFAULT '';
-- Builds that were begun again, after which attempt: when and why, and how they had ended.
CREATE TABLE retries (
    build BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    asked BIGINT NOT NULL,
    reason TEXT NOT NULL,
    outcome TEXT NOT NULL,
    told TEXT NOT NULL,
    started BIGINT,
    ended BIGINT NOT NULL,
    PRIMARY KEY (build, attempt)
);
CREATE INDEX tries_by_commit ON tries (commit_hash);
